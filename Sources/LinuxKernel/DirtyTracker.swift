public import PageModel

/// Why writes to a guest's memory cannot be tracked, with the remedy.
public struct TrackerRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    /// To be pasted into a shell: it takes the cause away, or shows more of it.
    package let command: String?

    /// A refusal in the words of who refuses, with the remedy.
    public init(_ description: String) { self.init(description, command: nil) }

    package init(_ description: String, command: String?) {
        self.description = description
        self.command = command
    }
}

/// Learns which pages the running guest writes, for a precopy.
///
/// A page is sent in this order: its bit is taken from the dirty bitmap, `clear` makes later writes
/// to it visible, then it is read. A write before `clear` is in what is read, one after it is in
/// the next `sync`. Clearing early costs a page sent twice; clearing late would lose a write.
///
/// Threads: `clear` and `forget` may be called by any thread at any time, also during `sync`; the
/// rest by one.
public protocol DirtyTracker: AnyObject, Sendable {
    /// Changes nothing; found out before a migration begins.
    /// - Throws: what the host lacks, or which memory cannot be tracked, with the remedy.
    func check() throws(TrackerRefusal)

    /// Tracks every write from now on; earlier ones may be reported too.
    func start() throws(TrackerRefusal)

    /// Marks in `dirty` the target pages of `block` that were written since the last `sync`. A
    /// write that another thread makes meanwhile is in this `sync` or in the next one.
    /// - Returns: how many pages were clean in `dirty` before.
    /// - Throws: what the kernel refuses. Writes may be lost by that: the precopy must not go on.
    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int

    /// Makes writes to `pages` visible that come after this call, and may report neighbours as
    /// well. Called after the pages' bits were taken and before the pages are read. Whether a write
    /// before it is still reported is the tracker's choice.
    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno)

    /// Forgets the writes to `pages` before this call, for a guest's hint that nobody needs what
    /// they hold; those that come after it stay visible, and so do all to pages beside them. Called
    /// after the pages' bits were taken. A page that cannot be told from its neighbours is not
    /// forgotten.
    func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno)

    /// Ends the tracking. May be called at any time, and more than once.
    func stop()
}
