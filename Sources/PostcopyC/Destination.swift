internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// `postcopy_destination`.
final class Destination: Handled {
    static let kind = "postcopy_destination"

    let migration: MigrationDestination
    private let guest: CallbackGuest
    private let watch: ProgressWatch?
    private let single: SingleRun<DestinationOutcome>
    private let place = Mutex(Place())

    /// Where it listens.
    private struct Place: ~Copyable, Sendable {
        /// Until it is run.
        var listener: Listener?
        var address: OwnedText?
    }

    init(_ guest: CallbackGuest, _ options: postcopy_options) throws(Failure) {
        self.guest = guest
        let settings = try unsafe MigrationOptions(options)
        migration = try coded { try MigrationDestination(guest: guest, options: settings) }
        watch = unsafe ProgressWatch(options, guest.callers)
        single = try SingleRun(Self.kind)
        try guest.retainBlocks()
    }

    func listen(at address: ChannelAddress) throws(Failure) {
        try place.withLock { place throws(Failure) in
            guard place.address == nil else {
                throw .wrongState("the postcopy_destination listens already")
            }
            let listener = try coded { try Listener(at: address) }
            place.address = OwnedText("\(listener.address)")
            place.listener = consume listener
        }
    }

    var address: OwnedText? { place.withLock { $0.address } }

    func run() throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_destination_run")
        let listener = try takeListener()
        try single.run { serve(listener) }
        try single.report().check()
    }

    func start() throws(Failure) {
        let listener = try takeListener()
        try single.start("pc-destination") { [self] in serve(listener) }
    }

    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_destination_wait")
        try single.wait(timeoutNanoseconds: timeout).check()
    }

    func recover(at address: ChannelAddress?) throws(Failure) {
        var listener: Listener?
        if let address { listener = try coded { try Listener(at: address) } }
        guard migration.recover(on: listener) else { throw .notPaused }
    }

    func report() throws(Failure) -> DestinationOutcome { try single.report() }

    var progress: postcopy_progress { postcopy_progress(migration.progress) }

    func close() throws(Failure) {
        try single.close()
        guest.releaseBlocks()
    }

    private func takeListener() throws(Failure) -> HeldListener {
        try place.withLock { place throws(Failure) in
            guard place.address != nil else {
                throw .wrongState("call postcopy_destination_listen first")
            }
            return HeldListener(place.listener.take())
        }
    }

    private func serve(_ listener: HeldListener) -> DestinationOutcome {
        let migration = migration
        guard let listener = listener.take() else {
            fatalError("a second run was let in")
        }
        var held = Optional(listener)
        let report: DestinationReport
        if let watch {
            report = watch.watching({ postcopy_progress(migration.progress) }) {
                migration.run(on: held.take()!)
            }
        } else {
            report = migration.run(on: held.take()!)
        }
        return DestinationOutcome(report, guestFailure: guest.failure)
    }
}

/// A listener on its way into a closure.
final class HeldListener: Sendable {
    private let listener: Mutex<Listener?>

    init(_ listener: consuming Listener?) { self.listener = Mutex(listener) }

    func take() -> Listener? { listener.withLock { $0.take() } }
}

/// A destination's report and what C reads of it.
final class DestinationOutcome: Sendable {
    let report: DestinationReport
    /// `nil` when nothing went wrong.
    let problem: OwnedText?
    let missing: MissingRows
    let blocktime: OwnedNumbers
    private let failure: Failure?

    /// - Parameter guestFailure: why a callback failed, if one did.
    init(_ report: DestinationReport, guestFailure: String?) {
        self.report = report
        problem = (guestFailure ?? report.problem).map { OwnedText($0) }
        missing = MissingRows(report.missing)
        blocktime = OwnedNumbers(report.blocktime?.vcpuNanoseconds ?? [])
        failure = .ofMigration(
            report.status, guestFailure: guestFailure, problem: report.problem)
    }

    func check() throws(Failure) { if let failure { throw failure } }
}
