internal import LinuxKernel
internal import Synchronization

/// The channels of one migration at the destination.
final class DestinationLink: Sendable {
    /// Read by the stream thread, written by the fault thread.
    let main: StreamSocket
    /// On their way from the control thread, which accepts them, to the fault thread. Whoever
    /// connects may be the source's urgent channel, or a stranger.
    private let arrived = Mutex<[ArrivedSocket]>([])
    /// Whether one of them brought a page, so that nobody else is listened for.
    let hasUrgent = Atomic(false)
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

    func deliver(_ socket: ArrivedSocket) { arrived.withLock { $0.append(socket) } }

    func takeArrived() -> [ArrivedSocket] {
        arrived.withLock { sockets in
            defer { sockets = [] }
            return sockets
        }
    }
}

/// A connection that somebody made and nobody has read yet.
final class ArrivedSocket: Sendable {
    let socket: StreamSocket

    init(_ socket: consuming StreamSocket) { self.socket = socket }
}
