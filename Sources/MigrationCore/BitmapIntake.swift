public import PageModel

/// Source: takes the received bitmaps of a recovery. What is owed from then on is what they lack, and
/// nothing that this side remembers: what it sent may have been lost on the way.
///
/// Threads: one, while nobody claims.
/// Source: `ram_dirty_bitmap_reload` (`migration/ram.c`).
public struct BitmapIntake: Sendable {
    private let owed: OwedPages
    /// Target pages in use of each block that is sent; `nil` for others.
    private let pageCounts: [Int?]
    /// Blocks whose bitmap has not ended yet.
    private var due: Set<BlockIndex>

    /// A bitmap that is due no more, or never was.
    public struct Unasked: Error, Equatable, Sendable {
        /// The block whose bitmap came.
        public let block: BlockIndex
    }

    /// - Parameter pageCounts: target pages in use of each block; `nil` for one that is not sent.
    public init(owed: OwedPages, pageCounts: [Int?]) {
        self.owed = owed
        self.pageCounts = pageCounts
        due = Set(
            pageCounts.indices.filter { pageCounts[$0] != nil }.map(BlockIndex.init(rawValue:)))
    }

    /// - Throws: `Unasked` for a second bitmap of a block.
    public func begin(_ block: BlockIndex) throws(Unasked) {
        guard due.contains(block) else { throw Unasked(block: block) }
    }

    /// Takes one word: 64 target pages from `64 * index` on, the first in its lowest bit.
    public func take(received word: UInt64, at index: Int, of block: BlockIndex) {
        owed.bitmaps[block.rawValue].setMissing(
            receivedWord: word, at: index, pageCount: pageCounts[block.rawValue] ?? 0)
    }

    /// Notes a bitmap's end; answers whether it was the last. Then what is owed is known and counted.
    public mutating func end(_ block: BlockIndex) -> Bool {
        owed.bitmaps[block.rawValue].completeHostPages()
        due.remove(block)
        guard due.isEmpty else { return false }
        owed.recount()
        return true
    }
}
