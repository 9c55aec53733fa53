public import PageModel

/// Tracks the writes that the embedder reports: for memory that others write, devices or processes,
/// and for a VMM that knows its guest's writes already.
///
/// `report` comes *after* the write that it tells of: told before, the page could be sent between
/// the two and the write be lost. When a guest has stopped, all its reports must have returned.
public final class ReportedWrites: DirtyTracker {
    /// Target pages by block index; `nil` for ignored blocks. The words are sequentially
    /// consistent: who takes a report reads the write before it.
    private let reported: [PageBitmap?]

    /// - Parameter ignored: blocks whose reports are dropped, for those that are not sent.
    public init(_ blocks: [BlockGeometry], ignoring ignored: Set<BlockIndex> = []) {
        reported = blocks.enumerated().map { index, block in
            if ignored.contains(BlockIndex(rawValue: index)) { return nil }
            return PageBitmap(pageCount: block.targetPageCount, allSet: false)
        }
    }

    /// Says that target pages were written. Lock-free; any thread, at any time.
    /// - Precondition: the pages are in the block.
    public func report(_ block: BlockIndex, _ pages: Range<Int>) {
        reported[block.rawValue]?.insert(pages)
    }

    public func check() throws(TrackerRefusal) {
        guard reported.contains(where: { $0 != nil }) else { throw .nothingToTrack }
    }

    /// Drops the reports from before: their writes are in what is read from now on.
    public func start() {
        for pages in reported {
            guard let pages else { continue }
            pages.remove(0..<pages.pageCount)
        }
    }

    public func sync(_ block: BlockIndex, into dirty: DirtyBitmap) -> Int {
        guard let pages = reported[block.rawValue] else { return 0 }
        var found = 0
        for index in 0..<pages.wordCount {
            let word = pages.takeWord(at: index)
            if word != 0 { found += dirty.insert(word: word, at: index) }
        }
        return found
    }

    /// Nothing is due: what is reported later stands out anyway.
    public func clear(_ block: BlockIndex, _ pages: Range<Int>) {}

    public func forget(_ block: BlockIndex, _ pages: Range<Int>) {
        reported[block.rawValue]?.remove(pages)
    }

    public func stop() {}
}
