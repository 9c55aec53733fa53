internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// `postcopy_destination`.
final class Destination: Handled {
    static let kind = "postcopy_destination"

    let migration: MigrationDestination
    private let guest: CallbackGuest
    private let relay: ProgressRelay?
    private let single: SingleRun<DestinationOutcome>
    private let place = Mutex(Place())

    /// Where it listens.
    private struct Place: ~Copyable, Sendable {
        /// Until it is run; one that was refused then is gone, and another can be had.
        var listener: Listener?
        /// Each that C was told, the current one last.
        var addresses: [OwnedText] = []

        var isListening: Bool {
            switch listener {
            case .some: true
            case .none: false
            }
        }
    }

    init(_ guest: CallbackGuest, _ options: postcopy_options) throws(Failure) {
        self.guest = guest
        let settings = try unsafe MigrationOptions(options)
        migration = try coded { try MigrationDestination(guest: guest, options: settings) }
        relay = try unsafe ProgressRelay(options, guest.callers)
        single = try SingleRun(Self.kind)
        try guest.blocks.retain()
    }

    func listen(at address: ChannelAddress) throws(Failure) {
        try place.withLock { place throws(Failure) in
            guard !place.isListening, single.isIdle else {
                throw .wrongState("the postcopy_destination listens already, or has")
            }
            let listener = try coded { try Listener(at: address) }
            place.addresses.append(OwnedText("\(listener.address)"))
            place.listener = consume listener
        }
    }

    var address: OwnedText? { place.withLock { $0.addresses.last } }

    func run() throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_destination_run")
        let outcome = try single.run { () throws(Failure) in
            let listener = try takeListener()
            return try observed { () throws(StartRefusal) in
                conclude(try migration.run(on: listener.take()))
            }
        }
        try outcome.check()
    }

    func start() throws(Failure) {
        try single.start { () throws(Failure) in
            let listener = try takeListener()
            try observed { () throws(StartRefusal) in try migration.start(on: listener.take()) }
        } follow: { [self] in
            do throws(StartRefusal) { return conclude(try migration.wait()) } catch {
                fatalError("a destination that was started was not: \(error)")
            }
        }
    }

    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) {
        try guest.callers.refuseBlocking("postcopy_destination_wait")
        try single.wait(timeoutNanoseconds: timeout).check()
    }

    func recover(at address: ChannelAddress?) throws(Failure) {
        var listener: Listener?
        if let address { listener = try coded { try Listener(at: address) } }
        let text =
            switch listener {
            case .some(let listener): Optional(OwnedText("\(listener.address)"))
            case .none: nil as OwnedText?
            }
        guard migration.recover(on: listener) else { throw .notPaused }
        if let text { place.withLock { $0.addresses.append(text) } }
    }

    func report() throws(Failure) -> DestinationOutcome { try single.report() }

    var progress: postcopy_progress { postcopy_progress(migration.progress) }

    func close() throws(Failure) {
        try single.close { _ throws(Failure) in }
        guest.blocks.release()
    }

    private func takeListener() throws(Failure) -> HeldListener {
        try place.withLock { place throws(Failure) in
            guard let listener = place.listener.take() else {
                throw .wrongState("call postcopy_destination_listen first")
            }
            return HeldListener(listener)
        }
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

    private func conclude(_ report: DestinationReport) -> DestinationOutcome {
        let outcome = DestinationOutcome(report, guestFailure: guest.failure)
        if let relay {
            var last = postcopy_progress(migration.progress)
            last.status = report.status.number
            relay.close(last)
        }
        return outcome
    }
}

/// A listener on its way into a closure.
final class HeldListener: Sendable {
    private let listener: Mutex<Listener?>

    init(_ listener: consuming Listener) { self.listener = Mutex(listener) }

    /// - Precondition: it was not taken yet.
    func take() -> Listener {
        guard let listener = listener.withLock({ $0.take() }) else {
            fatalError("a listener was taken twice")
        }
        return listener
    }
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
