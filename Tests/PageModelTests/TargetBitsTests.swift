import PageModel
import Testing

/// Blocks of host pages of every kind, in odd numbers and around the ends of words.
@Suite("the bits of a recovery")
struct TargetBitsTests {
    /// Target pages of a host page, and the host pages of a block.
    private static let shapes: [(Int, Int)] = [1, 2, 4, 16, 512].flatMap { size in
        (size == 512 ? [1, 2, 3, 65] : [1, 2, 3, 5, 31, 32, 33, 63, 64, 65, 127, 130, 257]).map {
            (size, $0)
        }
    }

    private static func block(_ size: Int, _ count: Int) throws -> BlockGeometry {
        let page = try #require(PageSize(bytes: UInt64(size) * 4096))
        return try BlockGeometry(
            name: "pc.ram", lengthBytes: UInt64(count) * page.bytes, hostPage: page)
    }

    /// Which of `count` pages are set: a multiplicative sequence, another for each seed.
    private static func chosen(_ count: Int, seed: Int) -> [Bool] {
        switch seed {
        case 0: return Array(repeating: false, count: count)
        case 1: return Array(repeating: true, count: count)
        default:
            var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15
            return (0..<count).map { _ in
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return state >> 33 & 3 < (seed % 3 + 1)
            }
        }
    }

    private static func bits(_ isSet: [Bool]) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: (isSet.count + 63) / 64 * 8)
        for (page, isSet) in isSet.enumerated() where isSet { bytes[page / 8] |= 1 << (page % 8) }
        return bytes
    }

    @Test("each target page has the bit of its host page", arguments: shapes)
    func layout(size: Int, count: Int) throws {
        let block = try Self.block(size, count)
        for seed in 0..<8 {
            let placed = Self.chosen(count, seed: seed)
            let received = ReceivedBitmap(block: block)
            for (page, isPlaced) in placed.enumerated() where isPlaced {
                received.insert(HostPageIndex(rawValue: page)..<HostPageIndex(rawValue: page + 1))
            }
            let isSet = placed.flatMap { Array(repeating: $0, count: size) }
            let total = count * size
            let lengths =
                [0, 1, 2, 3, 63, 64, 65, total / 2, total - 1, total].filter { $0 <= total }
            for pageCount in lengths {
                var bytes: [UInt8] = [0xee, 0xff]
                received.appendTargetBits(pageCount: pageCount, to: &bytes)
                #expect(bytes == [0xee, 0xff] + Self.bits(Array(isSet.prefix(pageCount))))
            }
        }
    }

    @Test("what a bitmap lacks is dirty, and the rest clean", arguments: shapes)
    func missing(size: Int, count: Int) throws {
        let block = try Self.block(size, count)
        for seed in 0..<6 {
            let total = block.targetPageCount
            let received = Self.chosen(total, seed: seed)
            for pageCount in Set([1, total / 2, total - 1, total]) where pageCount > 0 {
                let dirty = DirtyBitmap(block: block, allDirty: seed % 2 == 0)
                let bytes = Self.bits(Array(received.prefix(pageCount)))
                for index in 0..<bytes.count / 8 {
                    dirty.setMissing(
                        receivedWord: ReceivedBitmap.word(in: bytes.span, at: index * 8),
                        at: index, pageCount: pageCount)
                }
                let last = min(total, (pageCount + 63) / 64 * 64)
                let expected = (0..<last).filter { $0 < pageCount && !received[$0] }
                #expect(Self.pages(dirty, below: last) == expected)
            }
        }
    }

    @Test("a host page that is dirty in part becomes dirty whole", arguments: shapes)
    func complete(size: Int, count: Int) throws {
        let block = try Self.block(size, count)
        let total = block.targetPageCount
        for seed in 0..<8 {
            let dirty = DirtyBitmap(block: block, allDirty: false)
            let chosen = Self.chosen(total, seed: seed)
            // Few pages too, so that whole host pages stay clean.
            let isDirty = (0..<total).map { seed < 4 ? chosen[$0] : chosen[$0] && $0 % 97 == 0 }
            for page in 0..<total where isDirty[page] { dirty.insert(page..<page + 1) }
            dirty.completeHostPages()
            let expected = (0..<total).filter { page in
                isDirty[page / size * size..<(page / size + 1) * size].contains(true)
            }
            #expect(Self.pages(dirty, below: total) == expected)
        }
    }

    @Test(
        "each single page fills its host page and no other", arguments: [2, 4, 8, 16, 32, 64, 128])
    func single(size: Int) throws {
        let block = try Self.block(size, 256 / size + 1)
        for page in 0..<block.targetPageCount {
            let dirty = DirtyBitmap(block: block, allDirty: false)
            dirty.insert(page..<page + 1)
            dirty.completeHostPages()
            let hostPage = HostPageIndex(rawValue: page / size)
            #expect(
                Self.pages(dirty, below: block.targetPageCount)
                    == Array(block.targetPages(of: hostPage)))
            let received = ReceivedBitmap(block: block)
            received.insert(hostPage..<HostPageIndex(rawValue: hostPage.rawValue + 1))
            var bytes: [UInt8] = []
            received.appendTargetBits(pageCount: block.targetPageCount, to: &bytes)
            let isSet = (0..<block.targetPageCount).map { $0 / size == page / size }
            #expect(bytes == Self.bits(isSet))
        }
    }

    private static func pages(_ dirty: DirtyBitmap, below end: Int) -> [Int] {
        var pages: [Int] = []
        var start = 0
        while let run = dirty.nextRun(from: start), run.lowerBound < end {
            pages += Array(run.clamped(to: 0..<end))
            start = run.upperBound
        }
        return pages
    }
}
