internal import Postcopy
internal import Synchronization

/// The way out of a machine that goes through: one source after another until a host has taken it.
final class Departure: Sendable {
    private let machine: ParkedMachine
    private let passage: PagePassage
    private let next: ChannelAddress
    private let options: MigrationOptions
    private let state = Mutex(State())
    /// Raised with every change; one thread at a time waits for it.
    private let changed: EventFlag

    /// Who has the machine.
    private enum Custody {
        /// The host that it comes from: a refusal ends everything and does no harm.
        case elsewhere
        /// This one alone, which asks until a next one takes it.
        case here
        case leaving
    }

    private struct State {
        var session: SourceSession?
        var attempts = 0
        var custody = Custody.elsewhere
        var isGivenUp = false
        var isCommitted = false
        var isOpen = false
        var report: SourceReport?
    }

    /// How long after a refusal the next host is asked again: time to start another QEMU there.
    private static let retryNanoseconds: UInt64 = 1_000_000_000

    init(
        of machine: ParkedMachine, over passage: PagePassage, to next: ChannelAddress,
        options: MigrationOptions
    ) throws(Errno) {
        self.machine = machine
        self.passage = passage
        self.next = next
        self.options = options
        changed = try EventFlag()
    }

    var progress: SourceProgress? { state.withLock { $0.session }?.progress }
    var attempts: Int { state.withLock { $0.attempts } }
    /// Why the host that was asked last did not take the machine.
    var problem: String? { state.withLock { $0.report?.problem } }

    /// Whether the next host refused the machine before anybody moved it.
    var isRefused: Bool { state.withLock { $0.report != nil && $0.custody == .elsewhere } }

    /// Asks the next host whether it takes the machine, and hands it over when it may leave. Blocking:
    /// until a host has taken it, or has refused it while another host still has it.
    func run() -> SourceReport {
        while true {
            let report = attempt()
            let isOver = state.withLock { state in
                state.report = report
                if report.committedAtNanoseconds != nil { state.isCommitted = true }
                state.isOpen = report.status == .postcopyPaused && !state.isCommitted
                return state.isCommitted || state.custody == .elsewhere || state.isGivenUp
            }
            changed.raise()
            if isOver { return report }
            // A host that went without a word may run the machine: only somebody who looks can tell.
            let limit = isOpen ? UInt64.max : Self.retryNanoseconds
            _ = awaitChange(nanosecondsMax: limit) { $0.isGivenUp || limit == .max && !$0.isOpen }
        }
    }

    /// Whether a host went without saying whether it runs the machine.
    var isOpen: Bool { state.withLock { $0.isOpen } }

    func askAgain() {
        state.withLock { $0.isOpen = false }
        changed.raise()
    }

    private func attempt() -> SourceReport {
        let session: SourceSession
        do {
            session = try SourceSession(guest: machine, options: options, passage: passage)
        } catch {
            return SourceReport(failure: "\(error)")
        }
        let (isLeaving, isGivenUp) = state.withLock { state in
            state.session = session
            state.attempts += 1
            return (state.custody == .leaving, state.isGivenUp)
        }
        if isLeaving { session.startPostcopy() }
        if isGivenUp { session.cancel() }
        return session.run(to: next) { [self] status in
            guard status == .postcopyActive || status == .completed else { return }
            state.withLock { $0.isCommitted = true }
            changed.raise()
        }
    }

    /// Takes the machine over from the host that it comes from.
    /// - Returns: `false` when the next host has refused it already, or nobody wants it any more; then
    ///   it stays where it is.
    func adopt() -> Bool {
        state.withLock { state in
            guard state.report == nil, !state.isGivenUp else { return false }
            state.custody = .here
            return true
        }
    }

    /// Lets the adopted machine leave.
    func leave() {
        // An attempt that is only being made sees for itself that the machine may leave.
        let session = state.withLock { state in
            state.custody = .leaving
            return state.session
        }
        session?.startPostcopy()
    }

    /// Gives up a machine that another host has.
    func cancelUnlessOurs() { end(evenOurs: false) }

    /// Ends what has not left.
    func giveUp() { end(evenOurs: true) }

    private func end(evenOurs: Bool) {
        let session = state.withLock { state -> SourceSession? in
            guard evenOurs || state.custody == .elsewhere else { return nil }
            state.isGivenUp = true
            return state.session
        }
        session?.cancel()
        changed.raise()
    }

    /// Waits until something holds; `false` when the time ran out first.
    private func awaitChange(
        nanosecondsMax: UInt64, until holds: (State) -> Bool
    ) -> Bool {
        let deadline = Monotonic.deadline(afterNanoseconds: nanosecondsMax)
        while !state.withLock({ holds($0) }) {
            let now = Monotonic.now()
            guard now < deadline else { return false }
            _ = changed.wait(timeoutNanoseconds: deadline == .max ? .max : deadline - now)
            changed.clear()
        }
        return true
    }
}
