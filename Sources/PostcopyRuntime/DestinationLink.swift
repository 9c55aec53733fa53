internal import LinuxKernel
internal import Synchronization

/// The channels of one migration at the destination.
final class DestinationLink: Sendable {
    /// Read by the stream thread, written by the fault thread.
    let main: StreamSocket
    /// On its way from the control thread, which accepts it, to the fault thread, which owns it.
    private let arrivingUrgent = Mutex<StreamSocket?>(nil)
    /// Tells the fault thread to end once its outbox is empty.
    let isEnding = Atomic(false)
    /// Raised when the stream thread has nothing left to read.
    let streamEnded: EventFlag
    /// Raised when the fault thread has written all it will write.
    let lastWordSent: EventFlag

    init(main: consuming StreamSocket) throws(Errno) {
        self.main = main
        streamEnded = try EventFlag()
        lastWordSent = try EventFlag()
    }

    func deliver(urgent: consuming StreamSocket) {
        var urgent: StreamSocket? = urgent
        arrivingUrgent.withLock { slot in slot = urgent.take() }
    }

    func takeUrgent() -> StreamSocket? { arrivingUrgent.withLock { $0.take() } }
}
