import MigrationCore
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

@Suite("BitmapIntake")
struct BitmapIntakeTests {
    private static let a = BlockIndex(rawValue: 0)
    private static let b = BlockIndex(rawValue: 1)
    private static let ignored = BlockIndex(rawValue: 2)

    private static func owed() throws -> OwedPages {
        let huge = try #require(PageSize(bytes: 4 << 12))
        let blocks = [
            try BlockGeometry(name: "a", lengthBytes: 80 << 12, hostPage: .target),
            try BlockGeometry(name: "b", lengthBytes: 16 << 12, hostPage: huge),
            try BlockGeometry(name: "c", lengthBytes: 4 << 12, hostPage: .target),
        ]
        return OwedPages(blocks.map { DirtyBitmap(block: $0, allDirty: false) }, remaining: 0)
    }

    @Test("owed is what was not received, whatever was sent; the last bitmap's end says so")
    func intake() throws {
        let owed = try Self.owed()
        // Owed before, and received meanwhile; sent before, and lost.
        owed.bitmaps[0].insert(0..<10)
        var intake = BitmapIntake(owed: owed, pageCounts: [80, 16, nil])
        try intake.begin(Self.a)
        intake.take(received: ~0b1000, at: 0, of: Self.a)
        intake.take(received: 0x7fff, at: 1, of: Self.a)
        let isLastOfTwo = intake.end(Self.a)
        #expect(!isLastOfTwo)
        try intake.begin(Self.b)
        intake.take(received: 0xffdf, at: 0, of: Self.b)
        let isLast = intake.end(Self.b)
        #expect(isLast)
        #expect(owed.bitmaps[0].nextRun(from: 0) == 3..<4)
        #expect(owed.bitmaps[0].nextRun(from: 4) == 79..<80)
        // A larger host page is owed whole.
        #expect(owed.bitmaps[1].nextRun(from: 0) == 4..<8)
        #expect(owed.remaining.load(ordering: .relaxed) == 2 + 4)
    }

    @Test("pages behind a block's used length are owed to nobody")
    func usedLength() throws {
        let owed = try Self.owed()
        var intake = BitmapIntake(owed: owed, pageCounts: [70, nil, nil])
        try intake.begin(Self.a)
        intake.take(received: .max, at: 0, of: Self.a)
        intake.take(received: 0, at: 1, of: Self.a)
        let isLast = intake.end(Self.a)
        #expect(isLast && owed.remaining.load(ordering: .relaxed) == 6)
        #expect(owed.bitmaps[0].nextRun(from: 0) == 64..<70)
    }

    @Test("a second bitmap of a block, and one of a block that is not sent, are refused")
    func unasked() throws {
        var intake = BitmapIntake(owed: try Self.owed(), pageCounts: [80, 16, nil])
        try intake.begin(Self.b)
        _ = intake.end(Self.b)
        for block in [Self.b, Self.ignored] {
            let error = #expect(throws: BitmapIntake.Unasked.self) { try intake.begin(block) }
            #expect(error?.block == block)
        }
    }
}
