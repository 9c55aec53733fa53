public import PageModel

/// A wait that is over, for whoever keeps more of it than its length.
public struct EndedWait: Hashable, Sendable {
    /// What ended it.
    public enum Ending: Hashable, Sendable {
        /// Its page was placed.
        case placed
        /// The thread went on to another page, though nobody placed this one here.
        case moved
        /// Nothing: the account was finished before.
        case unfinished
    }

    /// Where it was kept while it lasted; free again.
    public let slot: Int
    /// The kernel's id of the thread.
    public let thread: Int32
    /// The vCPU that the thread runs, if it does.
    public let vcpu: Int?
    /// What it waited for.
    public let page: HostPage
    /// The first instant that counts.
    public let began: UInt64
    /// The last one; not before `began`.
    public let ended: UInt64
    /// What ended it.
    public let how: Ending
}
