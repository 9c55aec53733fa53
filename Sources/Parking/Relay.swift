public import Postcopy
internal import Synchronization

/// A machine that goes through this host: taken from one and handed to the next while its pages are
/// still coming.
///
/// The next host is asked before the machine moves, so that one which cannot take it leaves it where
/// it runs. Once the machine has left the host it came from it is nobody else's: a next host that
/// refuses it then is asked again, once a second, until it takes it. One that goes without saying
/// whether it runs the machine is asked again only when somebody says so (`askAgain`).
public final class Relay: Sendable {
    /// How a machine goes through.
    public struct Options: Sendable {
        /// Towards the host that it comes from.
        public var arrival = MigrationOptions()
        /// Towards the next.
        public var departure = MigrationOptions()
        /// Hands the machine over once every page is here; it stands still meanwhile.
        public var holdsFirst = false

        /// A link that breaks ends the way through where it is: neither side waits for it to come back,
        /// and the next host is asked again as a whole.
        public init() {
            arrival.recovery.mode = .none
            departure.recovery.mode = .none
        }
    }

    private let options: Options
    private let machine: ParkedMachine
    private let passage: PagePassage
    private let departure: Departure
    private let arrival: DestinationSession

    /// - Throws: `ConfigurationError`, `UserfaultfdRefusal`, or `Errno` when no descriptor is left.
    public init(
        of machine: ParkedMachine, to next: ChannelAddress, options: Options
    ) throws {
        self.options = options
        self.machine = machine
        passage = try PagePassage(of: machine.memory)
        departure = try Departure(
            of: machine, over: passage, to: next, options: options.departure)
        let (departure, holdsFirst) = (departure, options.holdsFirst)
        // Not before the host that it comes from has heard that the machine is ours: it may run it again
        // where that word does not come.
        let guest = ArrivingMachine(
            machine, whenOurs: { if !holdsFirst { departure.leave() } },
            whenLoaded: { () throws(GuestError) in
                guard !departure.adopt() else { return }
                let reason = departure.problem ?? "it was not asked for any more"
                throw GuestError("the next host did not take the machine: \(reason)")
            })
        arrival = try DestinationSession(
            guest: guest, options: options.arrival, passage: passage)
    }

    /// Where the machine stands on its way in and, once the next host was asked, on its way out.
    public var progress: (arrival: DestinationProgress, departure: SourceProgress?) {
        (arrival.progress, departure.progress)
    }

    /// Why the next host did not take the machine when it was asked last.
    public var lastRefusal: String? { departure.problem }

    /// Ends it where the machine has not left the host it comes from; afterwards it has no effect.
    public func cancel() {
        arrival.cancel()
        departure.cancelUnlessOurs()
    }

    /// Asks the next host again where it did not say whether it runs the machine. Whoever calls this has
    /// seen to it that it does not.
    public func askAgain() { departure.askAgain() }

    /// Whether the next host left that open, and the machine is kept here.
    public var isOpen: Bool { departure.isOpen }

    /// Takes the machine in and hands it on. Blocking: until the next host has every page, or the
    /// machine's way has ended otherwise.
    /// - Throws: `Errno` when the process may have no more threads.
    public func run(on stream: consuming IncomingStream) throws(Errno) -> RelayReport {
        let (departure, arrival) = (departure, arrival)
        let leaving = try JoinableThread<SourceReport>(name: "pc-relay") {
            let report = departure.run()
            if departure.isRefused { arrival.cancel() }
            return report
        }
        let received = arrival.run(on: stream)
        // What ends the way in from here on is no refusal.
        let isRefused = departure.isRefused
        let isWhole = received.status == .completed || received.isPausedWithAllPages
        if received.status != .completed {
            // Nobody runs here who could read zeros where pages are missing; the departure must not
            // wait in one that came as zeros.
            arrival.abandonGuest()
        }
        if !isWhole {
            passage.end()
            departure.giveUp()
        } else if options.holdsFirst {
            departure.leave()
        }
        var report = RelayReport(arrival: received, departure: leaving.join())
        report.attempts = departure.attempts
        report.isRefused = isRefused
        report.memoryBytes = machine.memory.reduce(0) { $0 + $1.usedBytes }
        return report
    }
}

/// How a machine went through, on this host's monotonic clock.
public struct RelayReport: Sendable {
    public let arrival: DestinationReport
    /// The last of the attempts.
    public let departure: SourceReport
    public internal(set) var attempts = 0
    /// Whether the next host refused the machine before it moved: it is where it was.
    public internal(set) var isRefused = false
    /// The machine's memory, which is all held until the last page has left.
    public internal(set) var memoryBytes: UInt64 = 0

    init(arrival: DestinationReport, departure: SourceReport) {
        self.arrival = arrival
        self.departure = departure
    }

    /// Whether the next host has the whole machine.
    public var isComplete: Bool { departure.status == .completed }

    /// For how long the host that the machine left could be gone while the next had not got all of it.
    public var evacuationNanoseconds: UInt64? {
        guard arrival.status == .completed, isComplete else { return nil }
        let (left, done) = (arrival.endedAtNanoseconds, departure.endedAtNanoseconds)
        return done > left ? done - left : 0
    }
}
