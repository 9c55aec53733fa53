public import Synchronization

/// Destination: which pages are here, and which somebody waits for.
///
/// A fault is noted as requested before the received bit is looked at; a page is noted as received,
/// once the kernel has it, before the requests are looked at. Whichever comes second sees the other.
/// Source: `page_requested` and `receivedmap` of QEMU (`migration/postcopy-ram.c`).
public final class PageDemand: Sendable {
    private let blocks: [BlockGeometry]
    /// Set by placers, read by all.
    public let received: [ReceivedBitmap]
    /// Changed by the fault thread alone, read by placers.
    public let requested: [RequestedPages]
    /// Host pages that are not here. Relaxed: it orders nothing.
    public let missing: Atomic<Int>

    /// Blocks of which so many host pages are missing.
    public init(blocks: [BlockGeometry], missing: Int) {
        self.blocks = blocks
        received = blocks.map(ReceivedBitmap.init(block:))
        requested = blocks.map(RequestedPages.init(block:))
        self.missing = Atomic(missing)
    }

    /// What a fault asks for.
    public enum Answer: Hashable, Sendable {
        /// The page was not asked for yet.
        case request
        /// It was, and has not come.
        case wait
        /// It is here: wake whoever waits, and `close` it.
        case present
    }

    /// Notes that somebody waits for `page`. The fault thread alone calls it.
    public func want(_ page: HostPage) -> Answer {
        let isNew = requested[page.block.rawValue].insert(page.page)
        if received[page.block.rawValue].contains(page.page) { return .present }
        return isNew ? .request : .wait
    }

    /// Whether a page that came may be placed: one that is here was discarded by nobody, and its second
    /// copy may be older than what the guest has made of the first. Changes nothing: until the kernel has
    /// the page nobody may read that it is here.
    public func admits(_ page: HostPage) -> Bool {
        !received[page.block.rawValue].contains(page.page)
    }

    /// Notes pages that the kernel has; answers how many are new, and whether that leaves none missing.
    public func settle(
        _ pages: Range<HostPageIndex>, of block: BlockIndex
    ) -> (new: Int, isLast: Bool) {
        let new = received[block.rawValue].insert(pages)
        let before = missing.subtract(new, ordering: .relaxed).oldValue
        return (new, new > 0 && before == new)
    }

    /// Whether somebody waits for one of these pages.
    public func isAwaited(_ pages: Range<HostPageIndex>, of block: BlockIndex) -> Bool {
        requested[block.rawValue].first(in: pages) != nil
    }

    /// Nobody waits for `page` any more. The fault thread alone calls it.
    public func close(_ page: HostPage) { requested[page.block.rawValue].remove(page.page) }

    /// The first page from `start` on, in block order, that was asked for and has not come; `nil` behind
    /// the last. A new link asks for all of them again. The fault thread alone calls it.
    ///
    /// Source: `migrate_send_rp_req_pages_pending` (`migration/migration.c`).
    public func nextOutstanding(from start: HostPage) -> HostPage? {
        nextRequested(from: start, isReceived: false)
    }

    /// The first page from `start` on, in block order, that was asked for, has come, and was not closed
    /// yet. The fault thread alone calls it.
    public func nextArrived(from start: HostPage) -> HostPage? {
        nextRequested(from: start, isReceived: true)
    }

    private func nextRequested(from start: HostPage, isReceived: Bool) -> HostPage? {
        var first = start.page
        for index in start.block.rawValue..<blocks.count {
            let end = HostPageIndex(rawValue: blocks[index].hostPageCount)
            while first < end, let page = requested[index].first(in: first..<end) {
                if received[index].contains(page) == isReceived {
                    return HostPage(block: BlockIndex(rawValue: index), page: page)
                }
                first = HostPageIndex(rawValue: page.rawValue + 1)
            }
            first = HostPageIndex(rawValue: 0)
        }
        return nil
    }
}
