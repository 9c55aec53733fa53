internal import LinuxKernel
internal import Synchronization

/// The channels of one link at the destination. A migration has one after the other.
final class DestinationLink: Sendable {
    /// Read by the stream thread, written by the fault thread.
    let main: SharedSocket
    /// What was read of it before its stream thread, from its first byte.
    let opening: [UInt8]
    /// Whether it takes a paused migration up again.
    let isResumed: Bool
    /// On their way from the control thread, which accepts them, to the fault thread.
    private let arrived = Mutex<[UrgentArrival]>([])
    /// Whether one of them is the source's urgent channel.
    let hasUrgent = Atomic(false)
    /// Tells the fault thread to let go of the link: nothing is read of it any more.
    let isDown = Atomic(false)
    /// Raised when the fault thread has let go.
    let isLeft: EventFlag
    /// Raised when the stream thread has nothing left to read.
    let streamEnded: EventFlag
    /// Whether the source said that it knows of the end.
    let isAcknowledged = Atomic(false)

    init(_ main: Arrival, isResumed: Bool) throws(Errno) {
        self.main = main.socket
        opening = main.opening
        self.isResumed = isResumed
        isLeft = try EventFlag()
        streamEnded = try EventFlag()
    }

    func deliver(_ urgent: UrgentArrival) { arrived.withLock { $0.append(urgent) } }

    func takeArrived() -> [UrgentArrival] {
        arrived.withLock { sockets in
            defer { sockets = [] }
            return sockets
        }
    }
}

/// Somebody who may be the source's urgent channel.
struct UrgentArrival: Sendable {
    let arrival: Arrival
    /// Whether it has shown the migration's token; if not, its first record decides.
    let isKnown: Bool
}
