/// Destination: which host pages of one block are placed.
///
/// A bit is set only after the kernel has the page, so the bitmap may lag the truth but never leads
/// it: a recovery tells the source these bits, and a page told too early would be lost for good.
/// Source: `receivedmap` of QEMU's `RAMBlock`.
public struct ReceivedBitmap: Sendable {
    let pages: PageBitmap
    let pagesPerHostPage: Int

    /// A block of which nothing was received.
    public init(block: BlockGeometry) {
        pages = PageBitmap(pageCount: block.hostPageCount, allSet: false)
        pagesPerHostPage = block.hostPage.targetPages
    }

    /// Whether a page was placed.
    public func contains(_ page: HostPageIndex) -> Bool { pages.contains(page.rawValue) }

    /// Marks `range` placed; answers how many were not yet.
    @discardableResult
    public func insert(_ range: Range<HostPageIndex>) -> Int {
        pages.insert(range.lowerBound.rawValue..<range.upperBound.rawValue)
    }

    /// Takes `range` back before its memory is dropped; answers how many were placed.
    @discardableResult
    public func remove(_ range: Range<HostPageIndex>) -> Int {
        pages.remove(range.lowerBound.rawValue..<range.upperBound.rawValue)
    }

    /// The next run of pages at or after `start` that are not placed.
    public func nextMissing(from start: HostPageIndex) -> Range<HostPageIndex>? {
        guard let lower = pages.firstClear(from: start.rawValue) else { return nil }
        let upper = pages.firstSet(from: lower) ?? pages.pageCount
        return HostPageIndex(rawValue: lower)..<HostPageIndex(rawValue: upper)
    }

    /// The next run of pages at or after `start` that are placed.
    public func nextPlaced(from start: HostPageIndex) -> Range<HostPageIndex>? {
        pages.nextRun(from: start.rawValue).map { run in
            HostPageIndex(rawValue: run.lowerBound)..<HostPageIndex(rawValue: run.upperBound)
        }
    }

    /// How many pages were placed. It reads the whole bitmap.
    public var placedCount: Int { pages.setCount }
}
