/// Source: which chunks of a run of memory must be cleared in a kernel's dirty log before any of their
/// pages is sent.
///
/// Clearing protects pages from the guest's writes, so it is put off until a page of the chunk leaves
/// and is done once for all the chunk's pages. Whoever finds a chunk taken sends its pages at once, so
/// one lock must hold `take` and the clearing together.
/// Source: `clear_bmap` of QEMU (`migration/ram.c`, `include/exec/ram_addr.h`).
public struct ClearBitmap: Sendable {
    /// The smallest chunk: a kernel clears whole words of 64 pages. `CLEAR_BITMAP_SHIFT_MIN` of QEMU.
    public static let chunkPagesMin = 64

    private let pageCount: Int
    private let chunkPages: Int
    private let chunks: PageBitmap

    /// No chunk is to be cleared yet.
    /// - Precondition: `chunkPages` is a power of two, at least `chunkPagesMin`.
    public init(pageCount: Int, chunkPages: Int) {
        precondition(chunkPages >= Self.chunkPagesMin && chunkPages.nonzeroBitCount == 1)
        self.pageCount = pageCount
        self.chunkPages = chunkPages
        chunks = PageBitmap(pageCount: (pageCount + chunkPages - 1) / chunkPages, allSet: false)
    }

    /// Marks every chunk that holds one of `pages`.
    public func insert(_ pages: Range<Int>) { chunks.insert(chunks(of: pages)) }

    /// Takes the first marked chunk that holds one of `pages` and answers all its pages; the last
    /// chunk ends with the run of memory.
    public func take(_ pages: Range<Int>) -> Range<Int>? {
        guard let chunk = chunks.firstSet(in: chunks(of: pages)) else { return nil }
        chunks.remove(chunk)
        return chunk * chunkPages..<min(pageCount, (chunk + 1) * chunkPages)
    }

    private func chunks(of pages: Range<Int>) -> Range<Int> {
        precondition(pages.lowerBound >= 0 && pages.upperBound <= pageCount)
        guard !pages.isEmpty else { return 0..<0 }
        return pages.lowerBound / chunkPages..<(pages.upperBound - 1) / chunkPages + 1
    }
}
