/// What a source's runtime must do for a transition: exactly this and nothing else.
public enum SourceAction: Hashable, Sendable {
    /// Nothing is left to do.
    case none
    /// The event has no meaning in this phase: do not do what it announced.
    case refuse
    /// The guest can no longer stay: tell the user so, and go on.
    case refuseCancel
    /// Write the head, OPEN_RETURN_PATH, PING 1, ADVISE and the block list.
    case sendSetup
    /// Tell the user that the guest may move, and begin the precopy where one is wanted.
    case awaitStart
    /// Stop the guest, then report `guestStopped`.
    case stopGuest
    /// Sync the dirty bitmap, write the discards and build the package, then report `packageStarted`.
    case sendDiscards
    /// Sync the dirty bitmap, write all that is dirty, then report `packageStarted`.
    case sendRest
    /// Write the package, then report `packageSent`. Only this action allows its first byte.
    case sendPackage
    /// Write the pages that are owed, then report `allPagesSent`.
    case streamPages
    /// Keep reading the return path until the destination commits: every page is written.
    case awaitCommit
    /// Write the END of `ram` and the end of the stream, then wait for SHUT.
    case sendEnd
    /// Close the channels and free the guest: it lives at the destination.
    case finish
    /// Close the channels; the guest was never asked to stop.
    case keepGuestRunning
    /// Close the channels and run the guest here, whether or not it has stopped yet.
    case resumeGuest
    /// Write no more, and read the return path to its end, since the destination's last word may
    /// still be in it. Keep the guest stopped and its pages and bitmaps as they are.
    case pause
    /// Write one RECV_BITMAP for each block, in the order of the list.
    case askBitmaps
    /// Connect the urgent channel and write RESUME.
    case sendResume
}
