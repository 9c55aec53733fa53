import PageModel
import Testing
import TestSupport

@Suite("the search for runs")
struct RunSearchTests {
    /// Around words, lines of eight words and the room of a batch.
    static let lengths = [0, 1, 63, 64, 65, 511, 512, 513, 1000, 1024, 2049, 3500]

    @Test(
        "every run of every pattern is found, one by one and in batches", arguments: lengths,
        PagePattern.allCases)
    func runs(length: Int, pattern: PagePattern) throws {
        for seed in 0..<8 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let pages = pattern.pages(length, perHostPage: 512, using: &random)
            let expected = pageRuns(of: pages)
            let bitmap = PageBitmap(pages)
            var found: [Range<Int>] = []
            while let run = bitmap.nextRun(from: found.last?.upperBound ?? 0) { found.append(run) }
            #expect(found == expected, "seed \(seed)")
            guard length > 0 else { continue }
            for capacity in [DirtyRuns.boundsMin, DirtyRuns.boundsMin + 1, 2000] {
                #expect(try batches(of: pages, capacity) == expected, "seed \(seed) \(capacity)")
            }
        }
    }

    private func batches(of pages: [Bool], _ capacity: Int) throws -> [Range<Int>] {
        let block = try BlockGeometry(
            name: "pc.ram", lengthBytes: UInt64(pages.count) << 12, hostPage: .target)
        let dirty = DirtyBitmap(block: block, allDirty: false)
        for run in pageRuns(of: pages) { dirty.insert(run) }
        var runs = DirtyRuns(of: dirty)
        var bounds = Array(repeating: -1, count: capacity)
        var found: [Range<Int>] = []
        while true {
            let count = runs.next(into: &bounds)
            if count == 0 { break }
            for index in stride(from: 0, to: count, by: 2) {
                found.append(bounds[index]..<bounds[index + 1])
            }
        }
        #expect(runs.next(into: &bounds) == 0)
        return found
    }

    @Test("a search of a part ends with it", arguments: PagePattern.allCases)
    func part(pattern: PagePattern) {
        var random = SeededRandom(seed: 5)
        let pages = pattern.pages(400, perHostPage: 64, using: &random)
        let bitmap = PageBitmap(pages)
        for start in stride(from: 0, through: 400, by: 7) {
            for end in stride(from: start, through: 400, by: 13) {
                let clear = (start..<end).first { !pages[$0] }
                let set = (start..<end).first { pages[$0] }
                #expect(bitmap.firstClear(in: start..<end) == clear)
                #expect(bitmap.firstSet(in: start..<end) == set)
            }
        }
    }

    @Test("a search may start anywhere", arguments: PagePattern.allCases)
    func anyStart(pattern: PagePattern) {
        var random = SeededRandom(seed: 3)
        let pages = pattern.pages(1300, perHostPage: 64, using: &random)
        let bitmap = PageBitmap(pages)
        for start in 0...pages.count + 1 {
            let rest = min(start, pages.count)..<pages.count
            let set = rest.first { pages[$0] }
            let clear = rest.first { !pages[$0] }
            #expect(bitmap.firstSet(from: start) == set)
            #expect(bitmap.firstClear(from: start) == clear)
            let end = set.flatMap { first in (first..<pages.count).first { !pages[$0] } }
            #expect(bitmap.nextRun(from: start) == set.map { $0..<(end ?? pages.count) })
        }
    }
}
