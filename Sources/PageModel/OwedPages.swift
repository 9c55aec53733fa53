public import Synchronization

/// Source: the target pages of all blocks that must still be sent. Whoever sends one claims it first.
///
/// Threads: any may claim. While a recovery learns what is owed nobody claims.
/// Source: `RAMBlock.bmap`, `migration_dirty_pages` of QEMU (`migration/ram.c`).
public final class OwedPages: Sendable {
    /// What is owed, by block.
    public let bitmaps: [DirtyBitmap]
    /// Target pages that nobody has claimed. Relaxed: it orders nothing.
    public let remaining: Atomic<Int>

    /// What the bitmaps hold, which is so many pages.
    public init(_ bitmaps: [DirtyBitmap], remaining: Int) {
        self.bitmaps = bitmaps
        self.remaining = Atomic(remaining)
    }

    /// Takes a requested host page for sending; `false` when it was sent or is on its way.
    public func claim(_ page: HostPage) -> Bool {
        let bitmap = bitmaps[page.block.rawValue]
        guard bitmap.claim(page.page) else { return false }
        remaining.subtract(bitmap.block.hostPage.targetPages, ordering: .relaxed)
        return true
    }

    /// Counts anew what remains, while nobody claims.
    public func recount() {
        remaining.store(bitmaps.reduce(0) { $0 + $1.dirtyCount }, ordering: .relaxed)
    }

    /// Takes the next pages owed, searched from the cursor once around all blocks: contiguous target
    /// pages of one block, at most `countMax` of them, or exactly one host page where those are larger.
    public func claimNext(
        from cursor: inout SendCursor, countMax: Int
    ) -> (block: BlockIndex, pages: Range<Int>)? {
        for _ in 0...bitmaps.count {
            if let run = bitmaps[cursor.block].claimNext(from: cursor.page, countMax: countMax) {
                remaining.subtract(run.count, ordering: .relaxed)
                defer { cursor.page = run.upperBound }
                return (BlockIndex(rawValue: cursor.block), run)
            }
            cursor.block = (cursor.block + 1) % bitmaps.count
            cursor.page = 0
        }
        return nil
    }
}

/// Where the background order stands: behind the page that was sent last.
public struct SendCursor: Hashable, Sendable {
    var block = 0
    /// A target page of that block.
    var page = 0

    /// At the first page of the first block.
    public init() {}

    /// Goes on behind a host page: what a guest touches next is often near.
    public mutating func goOn(behind page: HostPage, of geometry: BlockGeometry) {
        block = page.block.rawValue
        self.page = geometry.targetPages(of: page.page).upperBound
    }
}
