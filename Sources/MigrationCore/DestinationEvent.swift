/// What can happen to a destination: the source's commands, its own runtime's reports and the link.
public enum DestinationEvent: Hashable, Sendable {
    /// The stream's head is read and accepted.
    case headReceived
    /// OPEN_RETURN_PATH: messages may be written from now on.
    case returnPathOpened
    /// POSTCOPY_ADVISE, with page sizes like ours.
    case advise
    /// The block list of `ram` begins, for the first time or again.
    case blockList
    /// One POSTCOPY_RAM_DISCARD command; the wire's 16-bit length holds fewer than 4,096 ranges.
    case discard(ranges: UInt16)
    /// POSTCOPY_LISTEN, the first command of a package that was read whole.
    case listen
    /// The guest accepted the device state.
    case deviceLoaded
    /// The guest refused the device state, and did not run.
    case deviceRefused
    /// POSTCOPY_RUN, the last command of the package.
    case run
    /// The END of `ram` and the end of the stream on the main channel.
    case endOfStream
    /// Every page of every block is placed.
    case allPagesPlaced
    /// A channel failed or ended before its time.
    case linkLost
    /// The same, and the source is able to come back.
    case linkInterrupted
    /// The source has come back on a new link.
    case reconnected
    /// RECV_BITMAP, for one block.
    case bitmapAsked
    /// POSTCOPY_RESUME: pages may flow again.
    case resume
    /// The user gave up a guest that did not start here, after its package had come.
    case givenUp
    /// The source broke the protocol in a way that no other event says.
    case peerMisbehaved
    /// The peer kept silent for longer than it may.
    case deadlinePassed
}
