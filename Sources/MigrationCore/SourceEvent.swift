/// What can happen to a source: the user's wishes, its own runtime's reports, the peer and the link.
public enum SourceEvent: Hashable, Sendable {
    /// The main channel is open, both ways.
    case connected
    /// The destination answered PING 1.
    case returnPathAnswered
    /// The user wants the guest to move now.
    case startPostcopy
    /// What is dirty can be sent within the downtime limit.
    case restFits
    /// The kernel no longer says what the guest writes.
    case trackingFailed
    /// The guest no longer runs here.
    case guestStopped
    /// The discards, or the rest of memory, are written and the package is ready; not one byte of it
    /// is written yet.
    case packageStarted
    /// The package's last byte is written.
    case packageSent
    /// The destination answered PING 0x42: its devices are loaded and it will run the guest.
    case committed
    /// No page is owed any more: each is written to a channel.
    case allPagesSent
    /// The destination's last word, with its error number; 0 says that it has everything.
    case shut(error: UInt32)
    /// A channel failed or ended.
    case linkLost
    /// The peer kept silent for longer than it may.
    case deadlinePassed
    /// The user wants the guest to stay.
    case cancel
    /// The destination broke the protocol.
    case peerMisbehaved
    /// The destination takes this source back on a new link.
    case reconnected
    /// Every block's received bitmap has come, and what is owed follows from them.
    case bitmapsReceived
    /// RESUME_ACK: the destination asks again for what it waits for.
    case resumed
}
