import LinuxKernel
import Testing

@testable import TestWorkload

@Suite("Content model")
struct ContentModelTests {
    private func page(_ model: ContentModel, _ page: Int, writes: UInt64) -> [UInt64] {
        var words = [UInt64](repeating: 0xAA, count: ContentModel.wordsPerPage)
        var span = words.mutableSpan
        model.expectedPage(page, writes: writes, into: &span)
        return words
    }

    @Test("K writes one by one give what the model says of K", arguments: InitialFill.allCases)
    func writesOneByOne(fill: InitialFill) throws {
        let ram = try freshRAM(pages: 4)
        let model = ContentModel(seed: 9, fill: fill)
        let memory = GuestMemory(ram: ram, content: model)
        for number in 0..<4 {
            let offset = UInt64(number) * 4096
            ram.withMutablePage(at: offset, lengthBytes: 4096) { words in
                model.expectedPage(number, writes: 0, into: &words)
            }
            for writes in 0...1100 as ClosedRange<UInt64> {
                let mustLook = writes < 3 || (509...513).contains(writes) || writes % 73 == 0
                if mustLook || (1020...1024).contains(writes) {
                    let found = ram.withPage(at: offset, lengthBytes: 4096) { words in
                        model.matches(page: number, writes: writes, found: words)
                            && !model.matches(page: number, writes: writes + 1, found: words)
                            && model.mismatches(page: number, writes: writes, found: words) == nil
                    }
                    #expect(found, "page \(number) after \(writes) writes")
                    let expected = page(model, number, writes: writes)
                    let same = ram.withPage(at: offset, lengthBytes: 4096) { words in
                        words.indices.allSatisfy { words[$0] == expected[$0] }
                    }
                    #expect(same)
                }
                memory.write(page: number, countWord: memory.countWord(ofPage: number))
            }
        }
    }

    @Test("every flipped bit is seen, for every word", arguments: InitialFill.allCases)
    func flips(fill: InitialFill) {
        let model = ContentModel(seed: 3, fill: fill)
        for writes in [0, 1, 200, 511, 700] as [UInt64] {
            var words = page(model, 5, writes: writes)
            for index in words.indices {
                let right = words[index]
                words[index] ^= 1 << UInt64(index & 63)
                let matches = model.matches(page: 5, writes: writes, found: words.span)
                #expect(!matches)
                words[index] = right
            }
            words[77] ^= 2
            let found = model.mismatches(page: 5, writes: writes, found: words.span)
            #expect(found?.wordCount == 1)
            #expect(found?.first.word == 77 && found?.first.found == words[77])
        }
    }

    @Test("text is printable, zero is zero, random does not repeat, mixed has all three")
    func kinds() {
        let text = page(ContentModel(seed: 1, fill: .text), 0, writes: 0)
        for word in text {
            for shift in stride(from: 0 as UInt64, to: 64, by: 8) {
                #expect((0x20...0x7E).contains((word >> shift) & 0xFF))
            }
        }
        #expect(Set(text).count > 40)
        #expect(page(ContentModel(seed: 1, fill: .zero), 3, writes: 0).allSatisfy { $0 == 0 })
        let random = ContentModel(seed: 1, fill: .random)
        let words = (0..<20).flatMap { page(random, $0, writes: 0) }
        #expect(Set(words).count == words.count)
        let mixed = ContentModel(seed: 1, fill: .mixed)
        var counts: [InitialFill: Int] = [:]
        for number in 0..<3000 { counts[mixed.kind(ofKey: mixed.pageKey(number)), default: 0] += 1 }
        for kind in [InitialFill.random, .text, .zero] {
            #expect((850...1150).contains(counts[kind] ?? 0))
        }
    }

    @Test("another seed is other content")
    func seeds() {
        for fill in [InitialFill.random, .text] {
            let first = page(ContentModel(seed: 1, fill: fill), 0, writes: 0)
            #expect(first != page(ContentModel(seed: 2, fill: fill), 0, writes: 0))
            #expect(first == page(ContentModel(seed: 1, fill: fill), 0, writes: 0))
            #expect(first != page(ContentModel(seed: 1, fill: fill), 1, writes: 0))
        }
    }

    @Test("filling leaves zero pages alone and writes the others", arguments: [1, 2, 3])
    func fill(threads: Int) throws {
        let specification = try specification(hotPages: 10, pages: 60)
        let ram = try freshRAM(pages: 60)
        // A zero page that is left alone keeps what it held, which is how the test sees it.
        let model = ContentModel(specification: specification)
        let zeroPages = (0..<60).filter { model.isInitiallyZero(page: $0) }
        for page in zeroPages { ram.storeWord(7, at: UInt64(page) * 4096 + 64) }
        let workload = try Workload(specification: specification, ram: ram)
        workload.fill(threads: threads)
        let result = try Verification.run(
            ram: ram, state: WorkloadState(initialOf: specification), threads: threads)
        #expect(result.pages == 60)
        #expect(result.mismatches == zeroPages.count && result.mismatchedWords == zeroPages.count)
        #expect(result.firstMismatches.map(\.page) == Array(zeroPages.prefix(8)))
    }
}
