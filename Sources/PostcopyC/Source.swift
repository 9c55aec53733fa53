internal import CPostcopy
internal import Postcopy

/// `postcopy_source`.
final class Source: Handled {
    static let kind = "postcopy_source"

    let guest: CallbackGuest
    let migration: MigrationSource
    private let watch: ProgressWatch?
    private let single: SingleRun<SourceOutcome>

    init(_ guest: CallbackGuest, _ options: postcopy_options) throws(Failure) {
        self.guest = guest
        let settings = try unsafe MigrationOptions(options)
        let migration = try coded { try MigrationSource(guest: guest, options: settings) }
        self.migration = migration
        watch = unsafe ProgressWatch(options, guest.callers)
        single = try SingleRun(Self.kind)
        try guest.retainBlocks()
        guest.onFailure { migration.cancel() }
    }

    func run(to address: ChannelAddress) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_source_run")
        try single.run { serve(address) }
        try single.report().check()
    }

    func start(to address: ChannelAddress) throws(Failure) {
        try single.start("pc-source") { [self] in serve(address) }
    }

    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_source_wait")
        try single.wait(timeoutNanoseconds: timeout).check()
    }

    func report() throws(Failure) -> SourceOutcome { try single.report() }

    var progress: postcopy_progress { postcopy_progress(migration.progress) }

    func close() throws(Failure) {
        try single.close()
        guest.onFailure(nil)
        guest.releaseBlocks()
    }

    private func serve(_ address: ChannelAddress) -> SourceOutcome {
        let migration = migration
        let report: SourceReport
        if let watch {
            report = watch.watching({ postcopy_progress(migration.progress) }) {
                migration.run(to: address)
            }
        } else {
            report = migration.run(to: address)
        }
        return SourceOutcome(report, guestFailure: guest.failure)
    }
}

/// A source's report and what C reads of it.
final class SourceOutcome: Sendable {
    let report: SourceReport
    let status: MigrationStatus
    /// `nil` when nothing went wrong.
    let problem: OwnedText?
    private let failure: Failure?

    /// - Parameter guestFailure: why a callback failed, if one did: that is what ended the migration.
    init(_ report: SourceReport, guestFailure: String?) {
        self.report = report
        // It was the callback's failure that cancelled it.
        let isFailed = report.status == .cancelled && guestFailure != nil
        status = isFailed ? .failed : report.status
        let words = guestFailure ?? report.problem
        problem = words.map { OwnedText($0) }
        failure = .ofMigration(status, guestFailure: guestFailure, problem: report.problem)
    }

    func check() throws(Failure) { if let failure { throw failure } }
}

extension Failure {
    /// What a migration's run answers; `nil` for one that completed and whose callbacks all did.
    static func ofMigration(
        _ status: MigrationStatus, guestFailure: String?, problem: String?
    ) -> Failure? {
        if let guestFailure { return .callback(guestFailure) }
        guard status != .completed else { return nil }
        return .notCompleted(problem ?? "the migration ended as \(status)")
    }
}

extension CallbackGuest {
    /// Keeps every block until `releaseBlocks`; or none, when one was freed meanwhile.
    func retainBlocks() throws(Failure) {
        for (index, block) in blocks.enumerated() {
            do throws(Failure) { try block.retain() } catch {
                for earlier in blocks[..<index] { earlier.release() }
                throw error
            }
        }
    }

    func releaseBlocks() { for block in blocks { block.release() } }
}
