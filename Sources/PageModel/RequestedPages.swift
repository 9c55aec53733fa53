/// Destination: which host pages of one block somebody waits for.
///
/// Only the fault thread sets bits, before it looks at the received bitmap; a placer reads them after
/// it has set the received bit. Whichever comes second sees the other, so no waiter is overlooked.
public struct RequestedPages: Sendable {
    private let pages: PageBitmap

    /// A block of which nothing was asked for.
    public init(block: BlockGeometry) {
        pages = PageBitmap(pageCount: block.hostPageCount, allSet: false)
    }

    /// Notes that `page` is waited for; answers whether it was not yet.
    public func insert(_ page: HostPageIndex) -> Bool { pages.insert(page.rawValue) }

    /// The first waited-for page of `range`. Placers ask after every placing, so the cost is that of
    /// the range and not of the block.
    public func first(in range: Range<HostPageIndex>) -> HostPageIndex? {
        pages.firstSet(in: range.lowerBound.rawValue..<range.upperBound.rawValue)
            .map(HostPageIndex.init(rawValue:))
    }

    /// Whether a page was asked for.
    public func contains(_ page: HostPageIndex) -> Bool { pages.contains(page.rawValue) }

    /// Forgets that a page was asked for.
    public func remove(_ page: HostPageIndex) { pages.remove(page.rawValue) }
}
