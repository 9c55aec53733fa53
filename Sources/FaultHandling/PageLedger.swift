internal import PageModel
internal import Synchronization

/// What is known of each page: whether it is done with, given up, being served, and asked for meanwhile.
///
/// Claims settle who serves a page: whoever reads its fault, or the background. Whoever finds it claimed
/// leaves word, and then tries once more; whoever lets go looks for word afterwards. One of the two sees
/// the other, so that no waiter is overlooked.
final class PageLedger: Sendable {
    private let blocks: [Block]
    /// Host pages that are not settled. Relaxed: it orders nothing.
    private let missing: Atomic<Int>

    private struct Block {
        let geometry: BlockGeometry
        /// Host pages that were placed, lost for good, or given up whole; never cleared.
        let settled: PageBitmap
        /// Host pages that a thread serves just now.
        let claimed: PageBitmap
        /// Host pages that faulted while they were claimed.
        let wanted: PageBitmap
        /// Host pages whose fault may have been an old one; see `isFirstDoubt`.
        let doubted: PageBitmap
        /// Target pages that their user gave up.
        let removed: PageBitmap

        init(_ region: ServedRegion) {
            geometry = region.geometry
            func hostPages() -> PageBitmap {
                PageBitmap(pageCount: region.geometry.hostPageCount, allSet: false)
            }
            (settled, claimed, wanted, doubted) = (
                hostPages(), hostPages(), hostPages(), hostPages()
            )
            removed = PageBitmap(pageCount: geometry.targetPageCount, allSet: false)
            settled.insert(region.pages.upperBound.rawValue..<geometry.hostPageCount)
        }
    }

    init(_ regions: [ServedRegion]) {
        blocks = regions.map(Block.init)
        missing = Atomic(regions.reduce(0) { $0 + $1.pageCount })
    }

    var missingCount: Int { missing.load(ordering: .relaxed) }

    /// Takes a page to serve it; `false` when somebody else does, who will hear that it is wanted.
    func claim(_ page: HostPage) -> Bool {
        let block = blocks[page.block.rawValue]
        if block.claimed.insert(page.page.rawValue) { return true }
        block.wanted.insert(page.page.rawValue)
        return block.claimed.insert(page.page.rawValue)
    }

    /// What becomes of a claim that nobody waits for.
    enum Unasked {
        case claimed
        case settled
        /// Somebody serves it just now.
        case served
    }

    /// Takes a page that nobody waits for. One that was claimed may have been settled just before.
    func claimUnasked(_ page: HostPage) -> Unasked {
        if isSettled(page) { return .settled }
        let claimed = blocks[page.block.rawValue].claimed
        return claimed.insert(page.page.rawValue) ? .claimed : .served
    }

    func isSettled(_ page: HostPage) -> Bool {
        blocks[page.block.rawValue].settled.contains(page.page.rawValue)
    }

    /// Lets go of a page; answers whether somebody asked for it meanwhile.
    func release(_ page: HostPage) -> Bool {
        let block = blocks[page.block.rawValue]
        block.claimed.remove(page.page.rawValue)
        return block.wanted.remove(page.page.rawValue)
    }

    /// Notes that nobody needs to serve these pages any more.
    func settle(_ pages: Range<HostPageIndex>, of block: BlockIndex) {
        let new = blocks[block.rawValue].settled.insert(
            pages.lowerBound.rawValue..<pages.upperBound.rawValue)
        missing.subtract(new, ordering: .relaxed)
    }

    /// Whether a page was settled and not given up, and its fault is the first since: most likely it was
    /// read after another thread had placed the page.
    func isFirstDoubt(_ page: HostPage) -> Bool {
        isSettled(page) && !isRemoved(page) && isNewDoubt(page)
    }

    /// Answers `true` once for a page, until it is placed.
    func isNewDoubt(_ page: HostPage) -> Bool {
        blocks[page.block.rawValue].doubted.insert(page.page.rawValue)
    }

    func clearDoubt(_ pages: Range<HostPageIndex>, of block: BlockIndex) {
        blocks[block.rawValue].doubted.remove(
            pages.lowerBound.rawValue..<pages.upperBound.rawValue)
    }

    /// Notes bytes of a block that were given up, as far as they are whole target pages; answers how many
    /// are new.
    func remove(_ bytes: Range<UInt64>, of index: BlockIndex) -> Int {
        let block = blocks[index.rawValue]
        let page = PageSize.target.bytes
        let first = Int((bytes.lowerBound + page - 1) / page)
        let end = Int(bytes.upperBound / page)
        guard first < end else { return 0 }
        let new = block.removed.insert(first..<end)
        // Nobody places meanwhile: only the ends may need a look at what was given up before.
        let (whole, parts) = block.geometry.hostPages(coveredBy: first..<end)
        settle(whole, of: index)
        for page in parts where isRemoved(HostPage(block: index, page: page)) {
            settle(page..<HostPageIndex(rawValue: page.rawValue + 1), of: index)
        }
        return new
    }

    /// Whether all of a host page was given up.
    func isRemoved(_ page: HostPage) -> Bool {
        let block = blocks[page.block.rawValue]
        let pages = block.geometry.targetPages(of: page.page)
        return block.removed.firstClear(in: pages) == nil
    }

    /// The runs of target pages that were given up, among those of `pages`, as bytes from their start.
    func removedBytes(
        in pages: Range<HostPageIndex>, of index: BlockIndex
    ) -> [Range<Int>] {
        let block = blocks[index.rawValue]
        let shift = block.geometry.hostPage.shift - PageSize.target.shift
        let first = pages.lowerBound.rawValue << shift
        let end = pages.upperBound.rawValue << shift
        var runs: [Range<Int>] = []
        var next = first
        while let lower = block.removed.firstSet(in: next..<end) {
            let upper = block.removed.firstClear(in: lower..<end) ?? end
            let bytes = PageSize.target.shift
            runs.append((lower - first) << bytes..<(upper - first) << bytes)
            next = upper
        }
        return runs
    }

    /// The next run of pages at or after `start` that are not settled, or so many of it.
    func nextMissing(
        from start: HostPageIndex, of block: BlockIndex, countMax: Int
    ) -> Range<HostPageIndex>? {
        let settled = blocks[block.rawValue].settled
        guard let lower = settled.firstClear(from: start.rawValue) else { return nil }
        let end = lower + min(countMax, settled.pageCount - lower)
        let upper = settled.firstSet(in: lower..<end) ?? end
        return HostPageIndex(rawValue: lower)..<HostPageIndex(rawValue: upper)
    }
}
