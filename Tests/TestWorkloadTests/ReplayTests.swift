import LinuxKernel
import PageModel
import Testing

@testable import TestWorkload
import TestSupport

@Suite("Replay and verification")
struct ReplayTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let pattern: AccessPattern
        let fill: InitialFill
        let writeFraction: Double
        let vcpus: Int
        var testDescription: String { "\(pattern) \(fill) \(writeFraction) x\(vcpus)" }
    }

    static let cases: [Case] = AccessPattern.allCases.flatMap { pattern in
        InitialFill.allCases.flatMap { fill in
            [0, 0.3, 1].flatMap { fraction in
                [1, 3].map {
                    Case(pattern: pattern, fill: fill, writeFraction: fraction, vcpus: $0)
                }
            }
        }
    }

    @Test("a replay is equal to the real run", arguments: cases)
    func equal(_ run: Case) throws {
        let specification = try specification(
            vcpus: run.vcpus, pattern: run.pattern, writeFraction: run.writeFraction, hotPages: 11,
            fill: run.fill, pages: 16)
        let (state, ram) = try finished(specification, steps: run.pattern == .idle ? 8 : 4000)
        let result = try Verification.run(ram: ram, state: state, threads: 1)
        #expect(result.isClean && result.pages == 16, "\(result)")
        let replay = Replay(of: state, threads: 2)
        #expect(replay.generators == state.generators)
        let writes = replay.writes.reduce(0, &+)
        if run.writeFraction == 0 { #expect(writes == 0) }
        if run.writeFraction == 1 { #expect(writes == state.stepsDone) }
    }

    /// A run over 40 pages, 30 of them hot, the same each time.
    private func sample(fill: InitialFill = .mixed) throws -> (WorkloadState, GuestRAM) {
        try ran(
            specification(vcpus: 2, pattern: .sequential, hotPages: 30, fill: fill, pages: 40),
            stepsPerVCPU: 1500)
    }

    @Test("one flipped byte anywhere is reported as just that")
    func flip() throws {
        let (state, ram) = try sample()
        var random = SeededRandom(seed: 4)
        for round in 0..<60 {
            var offset = random.next(upperBound: 40 * 512 as UInt64)
            if round == 0 { offset = 0 }
            if round == 1 { offset = 40 * 512 - 1 }
            let right = ram.loadWord(at: offset * 8)
            let wrong = right ^ (UInt64(1) << random.next(upperBound: 64 as UInt64))
            ram.storeWord(wrong, at: offset * 8)
            let result = try Verification.run(ram: ram, state: state, threads: 1 + round % 2)
            ram.storeWord(right, at: offset * 8)
            #expect(result.mismatches == 1 && result.mismatchedWords == 1)
            #expect(
                result.firstMismatches == [
                    ContentModel.Mismatch(
                        page: Int(offset / 512), word: Int(offset % 512), expected: right,
                        found: wrong)
                ])
            #expect(result.stateMismatches.isEmpty && !result.isClean)
        }
        #expect(try Verification.run(ram: ram, state: state, threads: 1).isClean)
    }

    @Test("a dropped write is reported in word 0 and in the word it wrote")
    func droppedWrite() throws {
        let (state, ram) = try sample()
        let page = 7
        let writes = Replay(of: state).writes(ofPage: page)
        try #require(writes > 1)
        let content = ContentModel(specification: state.specification)
        ram.withMutablePage(at: UInt64(page) * 4096, lengthBytes: 4096) { words in
            content.expectedPage(page, writes: writes - 1, into: &words)
        }
        let result = try Verification.run(ram: ram, state: state, threads: 2)
        #expect(result.mismatches == 1 && result.mismatchedWords == 2)
        let first = try #require(result.firstMismatches.first)
        #expect(first.page == page && first.word == 0 && first.expected == first.found &+ 1)
    }

    @Test("two pages in each other's place are both reported", arguments: InitialFill.allCases)
    func swapped(fill: InitialFill) throws {
        let (state, ram) = try sample(fill: fill)
        let (first, second) = (3, 22)
        for word in 0..<512 as Range<UInt64> {
            let left = UInt64(first) * 4096 + word * 8
            let right = UInt64(second) * 4096 + word * 8
            let value = ram.loadWord(at: left)
            ram.storeWord(ram.loadWord(at: right), at: left)
            ram.storeWord(value, at: right)
        }
        let result = try Verification.run(ram: ram, state: state, threads: 2)
        #expect(result.mismatches == 2 && result.firstMismatches.map(\.page) == [first, second])
    }

    @Test("a page as it was before the run is reported, and eight are kept of many")
    func stale() throws {
        let (state, ram) = try sample()
        let content = ContentModel(specification: state.specification)
        for page in (5..<25).reversed() {
            ram.withMutablePage(at: UInt64(page) * 4096, lengthBytes: 4096) { words in
                content.expectedPage(page, writes: 0, into: &words)
            }
            if page == 24 {
                let result = try Verification.run(ram: ram, state: state, threads: 1)
                #expect(result.mismatches == 1 && result.firstMismatches.first?.page == 24)
            }
        }
        let result = try Verification.run(ram: ram, state: state, threads: 2)
        #expect(result.mismatches == 20)
        #expect(result.firstMismatches.map(\.page) == Array(5..<13))
    }

    @Test("a wrong read is reported of the vCPU that did it")
    func wrongState() throws {
        let (state, ram) = try sample()
        for change in 0..<3 {
            var generators = state.generators
            switch change {
            case 0: generators[1].readChecksum ^= 1
            case 1: generators[1].random &+= 1
            default: generators[1].cursor = (generators[1].cursor + 1) % 15
            }
            let wrong = WorkloadState(specification: state.specification, generators: generators)
            let result = try Verification.run(ram: ram, state: wrong, threads: 2)
            #expect(result.mismatches == 0 && !result.isClean)
            #expect(
                result.stateMismatches == [
                    Verification.StateMismatch(
                        vcpu: 1, expected: state.generators[1], found: generators[1])
                ])
        }
    }

    @Test("a page that was wrong while it was read is seen although it is right in the end")
    func wrongWhileRead() throws {
        let specification = try specification(
            pattern: .chase, writeFraction: 0, hotPages: 8, rate: 200_000, pages: 8)
        let (workload, ram) = try filled(specification)
        invertCounts(in: ram)
        try workload.start()
        wait(for: workload, steps: 50)
        workload.pause()
        invertCounts(in: ram)
        workload.stop()
        let result = try Verification.run(ram: ram, state: workload.saveState(), threads: 1)
        #expect(result.mismatches == 0 && result.stateMismatches.count == 1)
    }

    private func invertCounts(in ram: GuestRAM) {
        for offset in stride(from: 0, to: ram.geometry.lengthBytes, by: 4096) {
            ram.storeWord(~ram.loadWord(at: offset), at: offset)
        }
    }
}
