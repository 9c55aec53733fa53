public import PageModel

/// Why writes to a guest's memory cannot be tracked, with the remedy.
public struct TrackerRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    public init(_ description: String) { self.description = description }
}

/// Learns which pages the running guest writes, for a precopy.
///
/// A page is sent in this order: its bit is taken from the dirty bitmap, `clear` makes later writes to
/// it visible, then it is read. A write before `clear` is in what is read, one after it is in the next
/// `sync`. Clearing early costs a page sent twice; clearing late would lose a write.
///
/// Threads: `clear` may be called by any thread at any time, also during `sync`; the rest by one.
public protocol DirtyTracker: AnyObject, Sendable {
    /// Changes nothing; found out before a migration begins.
    /// - Throws: what the host lacks, or which memory cannot be tracked, with the remedy.
    func check() throws(TrackerRefusal)

    /// Tracks every write from now on; earlier ones may be reported too.
    func start() throws(TrackerRefusal)

    /// Marks in `dirty` the target pages of `block` that were written since the last `sync`. A write
    /// that another thread makes meanwhile is in this `sync` or in the next one.
    /// - Returns: how many pages were clean in `dirty` before.
    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int

    /// Makes writes to `pages` visible that come after this call; forgets those before it, and may
    /// report neighbours as well. Called before the pages are read.
    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno)

    /// Ends the tracking. May be called at any time, and more than once.
    func stop()
}
