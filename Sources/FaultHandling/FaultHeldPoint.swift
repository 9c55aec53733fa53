package import PageModel

/// Where a test holds a thread of a handler, to bring about what else takes luck.
package enum FaultHeldPoint: Sendable {
    /// The provider has answered, and what it answered is about to be placed.
    case contentRead(HostPage)
    /// Behind its gate, the thread has seen that what it has read still holds, and is about to place it.
    case placing(HostPage)
    /// The kernel refused to place because of an event that is not read, or not over.
    case interrupted(HostPage)
    /// A fault in no region was read, and is about to be refused.
    case faultOutside(HostAddress)
}
