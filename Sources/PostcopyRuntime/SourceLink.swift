internal import LinuxKernel
internal import StreamWire
internal import Synchronization

/// The channels between a source and its destination, until they break or are done with.
final class SourceLink: Sendable {
    /// 0 for the first; then counts the attempts to come back.
    let number: UInt32
    /// Written by the control thread, and by a sender while one runs: the precopy's, then the
    /// background's. Read by the return-path thread.
    let main: StreamSocket
    /// Connected by the control thread, written by the return-path thread.
    private let urgentChannel = Mutex<SharedSocket?>(nil)
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
    /// Whether RESUME may be on its way.
    let asksToResume = Atomic(false)
    /// Whether silence of the return path means that the link has broken.
    let isWatched = Atomic(false)
    /// What the destination says to a source that comes back.
    let welcome = Mutex(Welcome())
    /// Raised when the return path has nothing left to read.
    let returnPathEnded: EventFlag

    struct Welcome {
        var answer: RecoveryAnswer?
        /// Why, in its own words.
        var reason: String?
        /// Nothing more will be said.
        var isOver = false
    }

    init(main: consuming StreamSocket, number: UInt32 = 0) throws(Errno) {
        self.number = number
        self.main = main
        returnPathEnded = try EventFlag()
    }

    /// Whether it continues a migration whose earlier link broke.
    var isResumption: Bool { number > 0 }

    var hasUrgent: Bool { urgentExists.load(ordering: .relaxed) }

    var urgent: SharedSocket? { urgentChannel.withLock { $0 } }

    func deliver(urgent: consuming StreamSocket) {
        let urgent = SharedSocket(urgent)
        urgentChannel.withLock { $0 = urgent }
        urgentExists.store(true, ordering: .relaxed)
    }

    /// Whether the destination has closed a channel, as far as this host has heard.
    var isEndedByPeer: Bool { main.isEndedByPeer || urgent?.socket.isEndedByPeer == true }

    /// Ends all channels, both ways, and wakes whoever waits in them.
    func end() {
        main.shutDown()
        urgent?.socket.shutDown()
    }
}
