internal import CPostcopy
internal import Postcopy

/// `postcopy_source`.
final class Source: Handled {
    static let kind = "postcopy_source"

    let guest: CallbackGuest
    let migration: MigrationSource
    private let relay: ProgressRelay?
    private let single: SingleRun<SourceOutcome>

    init(_ guest: CallbackGuest, _ options: postcopy_options) throws(Failure) {
        self.guest = guest
        let settings = try unsafe MigrationOptions(options)
        let migration = try coded { try MigrationSource(guest: guest, options: settings) }
        self.migration = migration
        relay = try unsafe ProgressRelay(options, guest.callers)
        single = try SingleRun(Self.kind)
        try guest.blocks.retain()
        guest.onFailure { migration.cancel() }
    }

    func run(to address: ChannelAddress) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_source_run")
        let outcome = try single.run { () throws(Failure) in
            try observed { () throws(StartRefusal) in
                conclude(try migration.run(to: address))
            }
        }
        try outcome.check()
    }

    func start(to address: ChannelAddress) throws(Failure) {
        try single.start { () throws(Failure) in
            try observed { () throws(StartRefusal) in try migration.start(to: address) }
        } follow: { [self] in
            do throws(StartRefusal) { return conclude(try migration.wait()) } catch {
                fatalError("a source that was started was not: \(error)")
            }
        }
    }

    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_source_wait")
        try single.wait(timeoutNanoseconds: timeout).check()
    }

    func report() throws(Failure) -> SourceOutcome { try single.report() }

    var progress: postcopy_progress { postcopy_progress(migration.progress) }

    func close() throws(Failure) {
        try single.close { outcome throws(Failure) in
            guard outcome?.report.guestRunsHere == true,
                guest.isStopped || !migration.isGuestLeft
            else { return }
            throw .wrongState(
                "the guest's callback pause has not returned, and resume is called behind it: free "
                    + "the source after that")
        }
        guest.onFailure(nil)
        guest.blocks.release()
    }

    /// Begins with C told how it goes, if that is wanted.
    private func observed<Result>(
        _ body: () throws(StartRefusal) -> Result
    ) throws(Failure) -> Result {
        guard let relay else { return try coded(body) }
        let observation = try coded {
            try migration.observe(everyNanoseconds: relay.intervalNanoseconds) { progress in
                relay.report(postcopy_progress(progress))
            }
        }
        do throws(StartRefusal) { return try body() } catch {
            observation.cancel()
            throw Failure(error)
        }
    }

    private func conclude(_ report: SourceReport) -> SourceOutcome {
        if report.guestRunsHere { guest.awaitResume() }
        let outcome = SourceOutcome(report, guestFailure: guest.failure)
        if let relay {
            var last = postcopy_progress(migration.progress)
            last.status = outcome.status.number
            relay.close(last)
        }
        return outcome
    }
}

/// A source's report and what C reads of it.
final class SourceOutcome: Sendable {
    let report: SourceReport
    let status: MigrationStatus
    /// `nil` when nothing went wrong.
    let problem: OwnedText?
    private let failure: Failure?

    /// - Parameter guestFailure: why a callback failed, if one did: that ended the migration.
    init(_ report: SourceReport, guestFailure: String?) {
        self.report = report
        // It was the callback's failure that cancelled it.
        let isFailed = report.status == .cancelled && guestFailure != nil
        status = isFailed ? .failed : report.status
        problem = (guestFailure ?? report.problem).map { OwnedText($0) }
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
