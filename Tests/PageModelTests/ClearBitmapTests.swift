import PageModel
import Testing
import TestSupport

@Suite("ClearBitmap")
struct ClearBitmapTests {
    @Test("a chunk is marked by any of its pages and taken once, whole")
    func oneChunk() {
        let bitmap = ClearBitmap(pageCount: 1000, chunkPages: 64)
        #expect(bitmap.take(0..<1000) == nil)
        bitmap.insert(127..<128)
        #expect(bitmap.take(0..<64) == nil)
        #expect(bitmap.take(128..<1000) == nil)
        #expect(bitmap.take(64..<65) == 64..<128)
        #expect(bitmap.take(64..<128) == nil)
        bitmap.insert(63..<65)
        #expect(bitmap.take(0..<1000) == 0..<64)
        #expect(bitmap.take(0..<1000) == 64..<128)
        #expect(bitmap.take(0..<1000) == nil)
    }

    @Test("the last chunk ends with the memory", arguments: [64, 1024, 1 << 18, 1 << 35])
    func lastChunk(chunkPages: Int) {
        let bitmap = ClearBitmap(pageCount: 1000, chunkPages: chunkPages)
        bitmap.insert(999..<1000)
        #expect(bitmap.take(999..<1000) == 999 / chunkPages * chunkPages..<1000)
    }

    @Test("no pages are in no chunk", arguments: [0, 1, 64, 1000])
    func empty(page: Int) {
        let bitmap = ClearBitmap(pageCount: 1000, chunkPages: 64)
        bitmap.insert(page..<page)
        #expect(bitmap.take(0..<1000) == nil)
        bitmap.insert(0..<1000)
        #expect(bitmap.take(page..<page) == nil)
    }

    @Test("it does what a set of chunks does", arguments: 0..<20 as Range<UInt64>)
    func model(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let chunkPages = 64 << random.below(5)
        let pageCount = 1 + random.below(20_000)
        let bitmap = ClearBitmap(pageCount: pageCount, chunkPages: chunkPages)
        var marked: Set<Int> = []
        for _ in 0..<500 {
            let pages = random.range(in: pageCount)
            let chunks = Set(pages.map { $0 / chunkPages })
            if random.below(2) == 0 {
                bitmap.insert(pages)
                marked.formUnion(chunks)
                continue
            }
            var taken: [Range<Int>] = []
            while let chunk = bitmap.take(pages) { taken.append(chunk) }
            let expected = marked.intersection(chunks).sorted().map {
                $0 * chunkPages..<min(pageCount, ($0 + 1) * chunkPages)
            }
            #expect(taken == expected)
            marked.subtract(chunks)
        }
    }
}
