internal import LinuxKernel
internal import Synchronization

/// The channels of one migration at the source.
final class SourceLink: Sendable {
    /// Written by the control thread, and by a sender while one runs: the precopy's, then the
    /// background's. Read by the return-path thread.
    let main: StreamSocket
    /// On its way from the control thread, which connects it, to the return-path thread.
    private let arrivingUrgent = Mutex<StreamSocket?>(nil)
    private let urgentExists = Atomic(false)
    /// Whether the PING that asks for extensions may be on its way; before, nobody can have answered it.
    let asksForExtensions = Atomic(false)
    /// Whether the destination answered the PING that precedes the guest's stop.
    let isDestinationReady = Atomic(false)
    /// Whether the precopy's sender is at work in the kernel for long and writes nothing: then the
    /// control thread may. Held while it does, a PING of nine bytes.
    let isMainIdle = Mutex(false)
    /// Whether the precopy's sender has left the main channel.
    let isPrecopyOver = Atomic(false)
    /// Tells the return-path thread that no page is owed and the urgent channel ends.
    let endsUrgent = Atomic(false)
    /// Raised when the return path has nothing left to read.
    let returnPathEnded: EventFlag

    init(main: consuming StreamSocket) throws(Errno) {
        self.main = main
        returnPathEnded = try EventFlag()
    }

    var hasUrgent: Bool { urgentExists.load(ordering: .relaxed) }

    func deliver(urgent: consuming StreamSocket) {
        var urgent: StreamSocket? = urgent
        arrivingUrgent.withLock { slot in slot = urgent.take() }
        urgentExists.store(true, ordering: .relaxed)
    }

    /// Whether the destination has closed a channel, as far as this host has heard; asked while the
    /// urgent one waits for its first page.
    var isEndedByPeer: Bool {
        if main.isEndedByPeer { return true }
        return arrivingUrgent.withLock { slot in
            switch slot {
            case .some(let urgent): urgent.isEndedByPeer
            case .none: false
            }
        }
    }

    func takeUrgent() -> StreamSocket? { arrivingUrgent.withLock { $0.take() } }
}
