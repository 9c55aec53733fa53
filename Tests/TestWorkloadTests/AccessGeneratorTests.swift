import Testing

@testable import TestWorkload
import TestSupport

/// Counts the accesses per page instead of keeping content.
struct TouchedPages: WorkloadMemory {
    let word: @Sendable (Int) -> UInt64
    var writes: [Int: Int] = [:]
    var order: [Int] = []

    init(_ word: @escaping @Sendable (Int) -> UInt64 = { UInt64($0) }) { self.word = word }

    func countWord(ofPage page: Int) -> UInt64 { word(page) }
    mutating func write(page: Int, countWord: UInt64) {
        writes[page, default: 0] += 1
        order.append(page)
    }
}

@Suite("Access generator")
struct AccessGeneratorTests {
    private func generator(
        _ pattern: AccessPattern, pages: Int, vcpus: Int = 1, vcpu: Int = 0,
        writeFraction: Double = 1
    ) throws -> AccessGenerator {
        let specification = try specification(
            vcpus: vcpus, pattern: pattern, writeFraction: writeFraction, hotPages: pages,
            pages: pages)
        return AccessGenerator(
            specification: specification, vcpu: vcpu,
            state: GeneratorState(specification: specification, vcpu: vcpu))
    }

    @Test(
        "sequential and stride touch every page once per round",
        arguments: [AccessPattern.sequential, .stride], [1, 2, 3, 16, 17, 18, 34, 51, 289, 323])
    func covers(pattern: AccessPattern, pages: Int) throws {
        var generator = try generator(pattern, pages: pages)
        var memory = TouchedPages()
        for round in 1...2 {
            for _ in 0..<pages { generator.step(&memory) }
            #expect(memory.writes.count == pages)
            #expect(memory.writes.values.allSatisfy { $0 == round })
        }
        if pattern == .sequential { #expect(memory.order == Array(0..<pages) + Array(0..<pages)) }
    }

    @Test("every pattern stays inside its vCPU's share", arguments: AccessPattern.allCases)
    func stays(pattern: AccessPattern) throws {
        for vcpu in 0..<3 {
            var generator = try generator(pattern, pages: 50, vcpus: 3, vcpu: vcpu)
            let share = try specification(vcpus: 3, hotPages: 50, pages: 50).pages(of: vcpu)
            var memory = TouchedPages()
            for _ in 0..<2000 { generator.step(&memory) }
            #expect(memory.order.allSatisfy(share.contains))
            #expect(!memory.order.isEmpty)
            #expect(generator.state.stepsDone == 2000)
        }
    }

    @Test("the share of writes is as asked for", arguments: [0, 0.3, 1])
    func writeFraction(fraction: Double) throws {
        var generator = try generator(.uniform, pages: 64, writeFraction: fraction)
        var memory = TouchedPages()
        for _ in 0..<20_000 { generator.step(&memory) }
        let share = Double(memory.order.count) / 20_000
        #expect(abs(share - fraction) < (fraction == 0.3 ? 0.02 : 0.000_001))
    }

    @Test("uniform is even, zipf follows r^-0.99 and scatters its hot pages")
    func distribution() throws {
        var even = TouchedPages()
        var uniform = try generator(.uniform, pages: 100)
        for _ in 0..<20_000 { uniform.step(&even) }
        #expect((0..<100).allSatisfy { (120...290).contains(even.writes[$0] ?? 0) })

        let ranks = ZipfRanks(count: 1000)
        var random = SeededRandom(seed: 1)
        var counts = [Int](repeating: 0, count: 1000)
        for _ in 0..<50_000 { counts[Int(ranks.rank(random.next()))] += 1 }
        // The continuous law gives rank 0 about 9.6 % and rank 9 about 1.3 % of all draws.
        #expect((4500...5100).contains(counts[0]))
        #expect((550...800).contains(counts[9]))
        #expect(counts.prefix(100).reduce(0, +) > 50_000 * 6 / 10)
        #expect(counts.suffix(500).reduce(0, +) > 50_000 * 7 / 100)
    }

    @Test(
        "zipf places are a permutation, and hot ones are apart",
        arguments: [1, 2, 3, 10, 618, 4096])
    func scatter(pages: Int) {
        let ranks = ZipfRanks(count: pages)
        let places = (0..<UInt64(pages)).map { ranks.scattered($0) }
        #expect(Set(places).count == pages && places.allSatisfy { $0 < UInt64(pages) })
        if pages >= 618 {
            let hot = places.prefix(16).sorted()
            #expect(zip(hot, hot.dropFirst()).allSatisfy { $1 - $0 > 10 })
        }
    }

    @Test("the largest share works at both ends of the random numbers")
    func largest() {
        for count in [1, 2, 1 << 32] {
            let ranks = ZipfRanks(count: count)
            for random in [0, 1, UInt64.max / 2, .max - 1, .max] {
                #expect(ranks.place(random) < UInt64(count))
            }
            #expect(ranks.rank(0) == 0)
        }
    }

    @Test("chase goes elsewhere after one wrong value")
    func chaseDiverges() throws {
        let start = try generator(.chase, pages: 200)
        var right = TouchedPages()
        var wrong = TouchedPages { $0 == 0 ? 1 : UInt64($0) }
        var first = start
        var second = start
        for _ in 0..<100 {
            first.step(&right)
            second.step(&wrong)
        }
        #expect(right.order.first == wrong.order.first)
        #expect(right.order != wrong.order)
        #expect(Set(right.order).count > 60)
    }

    @Test(
        "the same seed gives the same run, another seed another", arguments: AccessPattern.allCases)
    func deterministic(pattern: AccessPattern) throws {
        func run(seed: UInt64) throws -> (GeneratorState, [UInt64]) {
            let specification = try specification(seed: seed, pattern: pattern)
            var memory = CountedMemory(
                content: ContentModel(specification: specification),
                pages: specification.pages(of: 0))
            var generator = AccessGenerator(
                specification: specification, vcpu: 0,
                state: GeneratorState(specification: specification, vcpu: 0))
            for _ in 0..<3000 { generator.step(&memory) }
            return (generator.state, memory.writes)
        }
        let first = try run(seed: 1)
        let again = try run(seed: 1)
        let other = try run(seed: 2)
        #expect(first == again)
        #expect(first.0 != other.0)
    }
}
