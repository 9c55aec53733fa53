import PageModel
import Synchronization
import TestSupport
import Testing

@Suite("OwedPages")
struct OwedPagesTests {
    private static func block(_ name: String, _ hostPages: Int, _ targetPages: Int) throws
        -> BlockGeometry
    {
        let size = try #require(PageSize(bytes: UInt64(targetPages) << 12))
        return try BlockGeometry(
            name: name, lengthBytes: UInt64(hostPages) * size.bytes, hostPage: size)
    }

    private static func owed(_ blocks: [BlockGeometry]) -> OwedPages {
        OwedPages(
            blocks.map { DirtyBitmap(block: $0, allDirty: true) },
            remaining: blocks.reduce(0) { $0 + $1.targetPageCount })
    }

    private static func page(_ block: Int, _ page: Int) -> HostPage {
        HostPage(block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: page))
    }

    @Test("a page is claimed once, whole, and counted")
    func claims() throws {
        let owed = Self.owed([try Self.block("a", 4, 2), try Self.block("b", 3, 1)])
        #expect(owed.claim(Self.page(0, 1)))
        #expect(!owed.claim(Self.page(0, 1)))
        #expect(owed.remaining.load(ordering: .relaxed) == 9)
        #expect(owed.bitmaps[0].nextRun(from: 0) == 0..<2)
        #expect(owed.bitmaps[0].nextRun(from: 2) == 4..<8)
        #expect(owed.claim(Self.page(1, 2)))
        #expect(owed.remaining.load(ordering: .relaxed) == 8)
    }

    @Test("a cursor goes once around all blocks and takes each page once, from wherever it stands")
    func around() throws {
        let blocks = [
            try Self.block("a", 5, 1), try Self.block("b", 3, 8), try Self.block("c", 70, 1),
        ]
        for seed in 0..<50 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let owed = Self.owed(blocks)
            var cursor = SendCursor()
            cursor.goOn(behind: Self.page(random.below(3), random.below(3)), of: blocks[0])
            var seen = blocks.map { Array(repeating: 0, count: $0.targetPageCount) }
            while let (block, run) = owed.claimNext(from: &cursor, countMax: 1 + random.below(20)) {
                for page in run { seen[block.rawValue][page] += 1 }
                if blocks[block.rawValue].hostPage.targetPages > 1 { #expect(run.count == 8) }
            }
            #expect(seen.allSatisfy { $0.allSatisfy { $0 == 1 } })
            #expect(owed.remaining.load(ordering: .relaxed) == 0)
        }
    }

    @Test("behind a requested page the order goes on at the next one")
    func hint() throws {
        let blocks = [try Self.block("a", 8, 2), try Self.block("b", 8, 1)]
        let owed = Self.owed(blocks)
        var cursor = SendCursor()
        #expect(owed.claim(Self.page(0, 3)))
        cursor.goOn(behind: Self.page(0, 3), of: blocks[0])
        let next = owed.claimNext(from: &cursor, countMax: 16)
        #expect(next?.block == BlockIndex(rawValue: 0) && next?.pages == 8..<10)
        #expect(owed.claim(Self.page(1, 7)))
        cursor.goOn(behind: Self.page(1, 7), of: blocks[1])
        let around = owed.claimNext(from: &cursor, countMax: 16)
        #expect(around?.block == BlockIndex(rawValue: 0) && around?.pages == 0..<2)
    }
}
