/// Source: which target pages of one block must still be sent.
///
/// A sender *claims* before it sends: the bits of a whole host page are taken at once, by one thread,
/// so no two channels ever send the same host page. When a block's host pages are larger than target
/// pages its bits must be canonical (all set or all clear within a host page) before claims begin.
/// Source: `RAMBlock.bmap` and `ram_save_host_page` of QEMU.
public struct DirtyBitmap: Sendable {
    /// The block whose pages it holds.
    public let block: BlockGeometry
    let pages: PageBitmap

    /// All pages of the block, dirty or clean.
    public init(block: BlockGeometry, allDirty: Bool) {
        self.block = block
        pages = PageBitmap(pageCount: block.targetPageCount, allSet: allDirty)
    }

    /// Marks target pages; answers how many were clean before.
    @discardableResult
    public func insert(_ range: Range<Int>) -> Int { pages.insert(range) }

    /// Marks the target pages of one 64-bit word, page `64 * index` in its lowest bit, as a kernel's
    /// dirty log gives them; answers how many were clean before. Bits beyond the block are dropped.
    @discardableResult
    public func insert(word: UInt64, at index: Int) -> Int { pages.formUnion(word, at: index) }

    /// Marks target pages as not to be sent; answers how many were dirty before.
    @discardableResult
    public func remove(_ range: Range<Int>) -> Int { pages.remove(range) }

    /// Takes the first dirty run at or after target page `start`, at most `countMax` pages of one
    /// bitmap word: for a precopy, which may send a part of a host page.
    public func takeRun(from start: Int, countMax: Int) -> Range<Int>? {
        pages.takeRun(from: start, countMax: countMax)
    }

    /// Clears in `others` the pages that are dirty here.
    public func subtract(from others: PageBitmap) { others.subtract(pages) }

    /// Marks the pages that `sent` has not, whatever their host pages; answers how many were clean.
    @discardableResult
    public func insertUnsent(_ sent: PageBitmap) -> Int {
        pages.canonicalize(sent: sent, pagesPerHostPage: 1)
    }

    /// Target pages that must still be sent.
    public var dirtyCount: Int { pages.setCount }

    /// The next run of dirty target pages at or after `start`. Who wants all of them uses `DirtyRuns`.
    public func nextRun(from start: Int) -> Range<Int>? { pages.nextRun(from: start) }

    /// Takes one whole host page; `false` when it was sent already or another thread has it.
    public func claim(_ page: HostPageIndex) -> Bool {
        let range = block.targetPages(of: page)
        // The first bit decides the race. The rest of a huge page is then the winner's to clear.
        guard pages.remove(range.lowerBound) else { return false }
        if range.count > 1 { pages.remove(range.lowerBound + 1..<range.upperBound) }
        return true
    }

    /// Takes the first dirty run at or after target page `start`: contiguous target pages, at most
    /// `countMax` of them when host pages are target pages, else exactly one host page.
    public func claimNext(from start: Int, countMax: Int) -> Range<Int>? {
        guard block.hostPage.targetPages > 1 else {
            return pages.takeRun(from: start, countMax: countMax)
        }
        var from = start
        while let dirty = pages.firstSet(from: from) {
            let page = HostPageIndex(rawValue: dirty / block.hostPage.targetPages)
            if claim(page) { return block.targetPages(of: page) }
            // Its new owner is still clearing it: go on behind it.
            from = block.targetPages(of: page).upperBound
        }
        return nil
    }
}
