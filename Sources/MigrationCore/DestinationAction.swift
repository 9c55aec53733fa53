/// What a destination's runtime must do for a transition: exactly this and nothing else.
public enum DestinationAction: Hashable, Sendable {
    /// Nothing is left to do.
    case none
    /// The report has no meaning in this phase: do not do what it announced.
    case refuse
    /// Check that the host can fault pages in, and empty every RAM block.
    case prepareMemory
    /// Take the received bits of the ranges back; their memory goes before faults are registered.
    case dropRanges
    /// Register userfaultfd, start the fault thread and the stream thread, then load the devices and
    /// report `deviceLoaded` or `deviceRefused`.
    case startListening
    /// Answer PING 0x42 when it comes. No PONG 0x42 is written before this action.
    case allowCommit
    /// Run the guest.
    case startGuest
    /// Run the guest; once it runs, write SHUT 0 and close: the pages were quicker than the devices.
    case startGuestThenShut
    /// Go on placing pages: the stream's end was quicker than the urgent channel.
    case awaitPages
    /// Write SHUT with this error number and close; an error also drops the guest's memory.
    case sendShut(error: UInt32)
    /// Close and drop the guest's memory: nobody can be told.
    case closeStream
    /// Close the channels, drop unfinished host pages, keep the guest and its memory.
    case pause
    /// Answer with the block's received bitmap.
    case sendBitmap
    /// Acknowledge, ask again for every page that is waited for, then go on with new faults; report
    /// `allPagesPlaced` where none is missing and `run` where the devices are loaded.
    case resumePages
}
