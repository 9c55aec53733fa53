import MigrationCore
import PageModel
import Synchronization
import Testing

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
