import PageModel
import Testing
import TestSupport

@Suite("PageBitmap")
struct PageBitmapTests {
    static let pageCounts = [0, 1, 63, 64, 65, 127, 128, 1000]

    @Test("it does what a set of numbers does", arguments: pageCounts, 0..<8 as Range<UInt64>)
    func followsSet(pageCount: Int, seed: UInt64) {
        var random = SeededRandom(seed: seed &* 1_000_003 &+ UInt64(pageCount))
        let allSet = Bool.random(using: &random)
        let bitmap = PageBitmap(pageCount: pageCount, allSet: allSet)
        var model = allSet ? Set(0..<pageCount) : []
        for _ in 0..<150 {
            changeRange(bitmap, &model, &random)
            if pageCount > 0 { changePage(bitmap, &model, &random) }
            take(bitmap, &model, &random)
            if random.below(8) == 0, pageCount > 0 { takeWord(bitmap, &model, &random) }
            let start = Int.random(in: 0...pageCount + 70, using: &random)
            compare(bitmap, model, from: start)
            let asked = random.range(in: pageCount)
            #expect(bitmap.firstSet(in: asked) == asked.first(where: model.contains))
        }
        for page in 0..<pageCount { #expect(bitmap.contains(page) == model.contains(page)) }
    }

    private func changeRange(
        _ bitmap: PageBitmap, _ model: inout Set<Int>, _ random: inout SeededRandom
    ) {
        let range = random.range(in: bitmap.pageCount)
        let held = range.count { model.contains($0) }
        if Bool.random(using: &random) {
            #expect(bitmap.insert(range) == range.count - held)
            model.formUnion(range)
        } else {
            #expect(bitmap.remove(range) == held)
            model.subtract(range)
        }
    }

    private func changePage(
        _ bitmap: PageBitmap, _ model: inout Set<Int>, _ random: inout SeededRandom
    ) {
        let page = Int.random(in: 0..<bitmap.pageCount, using: &random)
        if Bool.random(using: &random) {
            #expect(bitmap.insert(page) == model.insert(page).inserted)
        } else {
            #expect(bitmap.remove(page) == (model.remove(page) != nil))
        }
        #expect(bitmap.contains(page) == model.contains(page))
    }

    private func take(
        _ bitmap: PageBitmap, _ model: inout Set<Int>, _ random: inout SeededRandom
    ) {
        let start = Int.random(in: 0...bitmap.pageCount, using: &random)
        let countMax = Int.random(in: 1...70, using: &random)
        let run = bitmap.takeRun(from: start, countMax: countMax)
        guard let first = model.filter({ $0 >= start }).min() else {
            #expect(run == nil)
            return
        }
        // To the first clear page, the end of the word or the limit, whatever comes first.
        var end = first + 1
        while model.contains(end), end % 64 != 0, end - first < countMax { end += 1 }
        #expect(run == first..<end)
        model.subtract(first..<end)
    }

    private func takeWord(
        _ bitmap: PageBitmap, _ model: inout Set<Int>, _ random: inout SeededRandom
    ) {
        #expect(bitmap.wordCount == (bitmap.pageCount + 63) / 64)
        let index = random.below(bitmap.wordCount)
        let held = model.filter { $0 / 64 == index }
        let word = bitmap.takeWord(at: index)
        let taken = (0..<64).filter { word >> UInt64($0) & 1 == 1 }.map { index * 64 + $0 }
        #expect(Set(taken) == held)
        model.subtract(held)
    }

    private func compare(_ bitmap: PageBitmap, _ model: Set<Int>, from start: Int) {
        let pageCount = bitmap.pageCount
        let set = (min(start, pageCount)..<pageCount).first(where: model.contains)
        let clear = (min(start, pageCount)..<pageCount).first { !model.contains($0) }
        #expect(bitmap.setCount == model.count)
        #expect(bitmap.firstSet(from: start) == set)
        #expect(bitmap.firstClear(from: start) == clear)
        guard let set else {
            #expect(bitmap.nextRun(from: start) == nil)
            return
        }
        let end = (set..<pageCount).first { !model.contains($0) } ?? pageCount
        #expect(bitmap.nextRun(from: start) == set..<end)
    }

    @Test("all set means the pages and not the rest of the last word", arguments: pageCounts)
    func allSet(pageCount: Int) {
        let bitmap = PageBitmap(pageCount: pageCount, allSet: true)
        #expect(bitmap.setCount == pageCount)
        #expect(bitmap.firstClear(from: 0) == nil)
        #expect(bitmap.nextRun(from: 0) == (pageCount == 0 ? nil : 0..<pageCount))
        #expect(bitmap.remove(0..<pageCount) == pageCount)
        #expect(bitmap.firstSet(from: 0) == nil)
    }

    @Test("takeRun walks all pages in order, word by word", arguments: pageCounts, [1, 7, 64, 900])
    func takeAll(pageCount: Int, countMax: Int) {
        let bitmap = PageBitmap(pageCount: pageCount, allSet: true)
        var next = 0
        while let run = bitmap.takeRun(from: next, countMax: countMax) {
            #expect(run.lowerBound == next)
            #expect(run.lowerBound / 64 == (run.upperBound - 1) / 64)
            #expect((1...countMax).contains(run.count))
            next = run.upperBound
        }
        #expect(next == pageCount)
        #expect(bitmap.setCount == 0)
    }

    @Test("a page outside traps: one bit would hide in the last word")
    func outside() async {
        await #expect(processExitsWith: .failure) {
            PageBitmap(pageCount: 65, allSet: false).insert(65)
        }
        await #expect(processExitsWith: .failure) {
            PageBitmap(pageCount: 65, allSet: false).insert(60..<66)
        }
        await #expect(processExitsWith: .failure) {
            _ = PageBitmap(pageCount: 65, allSet: false).contains(-1)
        }
    }
}
