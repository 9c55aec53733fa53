import PageModel
import Testing
import TestSupport

@Suite("canonicalization at the switch")
struct CanonicalizationTests {
    /// Some of the 100,000 pairs of bitmaps.
    struct Pairs: Sendable, CustomStringConvertible {
        let perHostPage: Int
        let count: Int
        /// Lengths are below this, and multiples of nothing.
        let lengthMax: Int
        var lengthMin = 0

        var description: String {
            "\(count) pairs of \(lengthMin) to \(lengthMax) pages, \(perHostPage) a host page"
        }
    }

    static let pairs = [
        Pairs(perHostPage: 1, count: 30_000, lengthMax: 200),
        Pairs(perHostPage: 8, count: 40_000, lengthMax: 300),
        Pairs(perHostPage: 2, count: 1_000, lengthMax: 300),
        Pairs(perHostPage: 4, count: 1_000, lengthMax: 300),
        Pairs(perHostPage: 16, count: 1_000, lengthMax: 300),
        Pairs(perHostPage: 32, count: 1_000, lengthMax: 300),
        Pairs(perHostPage: 64, count: 1_000, lengthMax: 500),
        Pairs(perHostPage: 128, count: 1_000, lengthMax: 700),
        Pairs(perHostPage: 512, count: 20_000, lengthMax: 150),
        Pairs(perHostPage: 512, count: 2_000, lengthMax: 2_500),
        Pairs(perHostPage: 262_144, count: 6_000, lengthMax: 300),
        Pairs(perHostPage: 262_144, count: 10, lengthMax: 530_000, lengthMin: 262_000),
    ]

    @Test("it agrees with the rules, page by page", arguments: pairs, 0..<2 as Range<UInt64>)
    func agrees(pairs: Pairs, half: UInt64) throws {
        for index in 0..<UInt64(pairs.count / 2) {
            let seed = index << 1 | half
            if let wrong = Self.difference(pairs, seed: seed) {
                Issue.record("seed \(seed) of \(pairs): \(wrong)")
                return
            }
        }
    }

    /// What differs from the rules, if anything does.
    private static func difference(_ pairs: Pairs, seed: UInt64) -> String? {
        var random = SeededRandom(seed: seed &* 1_000_003 &+ UInt64(pairs.perHostPage))
        let length = Int.random(in: pairs.lengthMin...pairs.lengthMax, using: &random)
        // The even patterns take their time, page by page.
        let patterns = length > 100_000 ? largePatterns : PagePattern.allCases
        let dirty = patterns[random.below(patterns.count)].pages(
            length, perHostPage: pairs.perHostPage, using: &random)
        let sent = patterns[random.below(patterns.count)].pages(
            length, perHostPage: pairs.perHostPage, using: &random)
        let expected = owedPages(dirty: dirty, sent: sent, perHostPage: pairs.perHostPage)

        let bitmap = PageBitmap(dirty)
        let sentBitmap = PageBitmap(sent)
        let dirtyBefore = bitmap.setCount
        let added = bitmap.canonicalize(sent: sentBitmap, pagesPerHostPage: pairs.perHostPage)
        for page in 0..<length where bitmap.contains(page) != expected[page] {
            return "page \(page) of \(length) is \(bitmap.contains(page))"
        }
        let count = expected.count { $0 }
        if bitmap.setCount != count { return "bits behind the end" }
        if added != count - dirtyBefore { return "\(added) added, not \(count - dirtyBefore)" }
        if sentBitmap.setCount != sent.count(where: { $0 }) { return "the sent bitmap changed" }
        return nil
    }

    private static let largePatterns: [PagePattern] = [
        .none, .all, .runs, .wordEdges, .hostPageEdges, .hostPages, .nearlyHostPages,
    ]

    @Test("there are 100,000 pairs, thousands of each kind of guest")
    func enough() {
        #expect(Self.pairs.reduce(0) { $0 + $1.count } >= 100_000)
        for perHostPage in [1, 8, 512, 262_144] {
            let count = Self.pairs.filter { $0.perHostPage == perHostPage }.map(\.count).reduce(
                0, +)
            #expect(count >= 5_000)
        }
    }

    @Test("a block's host pages are its own", arguments: [PageSize.target, .size2MiB])
    func block(page: PageSize) throws {
        let block = try BlockGeometry(
            name: "pc.ram", lengthBytes: 4 * PageSize.size2MiB.bytes, hostPage: page)
        let dirty = DirtyBitmap(block: block, allDirty: false)
        let sent = PageBitmap(pageCount: block.targetPageCount, allSet: true)
        dirty.insert(600..<601)
        sent.remove(1100)
        let added = dirty.canonicalize(sent: sent)
        #expect(added == (page == .target ? 1 : 1023))
        #expect(dirty.nextRun(from: 0) == (page == .target ? 600..<601 : 512..<1536))
        #expect(dirty.canonicalize(sent: sent) == 0)
    }

    @Test("bitmaps of two lengths trap")
    func otherLength() async {
        await #expect(processExitsWith: .failure) {
            let bitmap = PageBitmap(pageCount: 64, allSet: false)
            let sent = PageBitmap(pageCount: 65, allSet: true)
            bitmap.canonicalize(sent: sent, pagesPerHostPage: 1)
        }
    }
}
