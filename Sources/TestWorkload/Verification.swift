public import LinuxKernel
internal import PageModel
internal import Synchronization

/// The comparison of a stopped workload's whole memory and state with the model.
public struct Verification: Equatable, Sendable {
    /// A vCPU whose generator is not where its steps lead: it read or did something else.
    public struct StateMismatch: Equatable, Sendable {
        public let vcpu: Int
        public let expected: GeneratorState
        public let found: GeneratorState
    }

    /// How many mismatches are kept in full: enough to see a pattern, one screen to print.
    public static let mismatchesKept = 8

    /// The pages compared: all of memory.
    public internal(set) var pages = 0
    /// The pages that differ from the model in at least one byte.
    public internal(set) var mismatches = 0
    /// The words of 8 bytes that differ, in all pages.
    public internal(set) var mismatchedWords = 0
    /// The first differing word of each of the lowest pages that differ, at most `mismatchesKept`.
    public internal(set) var firstMismatches: [ContentModel.Mismatch] = []
    public internal(set) var stateMismatches: [StateMismatch] = []

    /// Every page and every vCPU is as the model says.
    public var isClean: Bool { mismatches == 0 && stateMismatches.isEmpty }

    /// Replays `state` and compares every byte of every page of `ram` with the outcome.
    ///
    /// Blocking: yes, for as long as it takes; it reads guest memory, so every page must be present
    /// or come from somebody else. The vCPUs must be parked or stopped in `state`.
    /// - Parameter threads: how many threads may work; below 1 counts as 1.
    /// - Throws: `WorkloadError.memoryLength` when `ram` is not as long as the specification says.
    public static func run(
        ram: GuestRAM, state: WorkloadState, threads: Int,
        progress: WorkloadProgressHandler? = nil
    ) throws(WorkloadError) -> Verification {
        let specification = state.specification
        try specification.check(ram)
        let replay = Replay(of: state, threads: threads, progress: progress)
        let pageCount = specification.pageCount
        let counter = ProgressCounter(.comparing, total: UInt64(pageCount), progress)
        let sum = Sum()
        let content = ContentModel(specification: specification)
        SharedTask.run(pieces: PagePieces.count(ofPages: pageCount), threads: threads) { piece in
            let pages = PagePieces.range(piece, ofPages: pageCount)
            sum.add(compare(pages, of: ram, content, replay))
            counter.add(UInt64(pages.count))
        }
        var result = sum.value()
        for vcpu in 0..<specification.vcpuCount {
            let expected = replay.generators[vcpu]
            let found = state.generators[vcpu]
            guard expected != found else { continue }
            result.stateMismatches.append(
                StateMismatch(vcpu: vcpu, expected: expected, found: found))
        }
        return result
    }

    private static func compare(
        _ pages: Range<Int>, of ram: GuestRAM, _ content: ContentModel, _ replay: Replay
    ) -> Verification {
        var result = Verification()
        result.pages = pages.count
        for page in pages {
            let writes = replay.writes(ofPage: page)
            let offset = UInt64(page) * WorkloadSpecification.pageBytes
            ram.withPage(at: offset, lengthBytes: Int(WorkloadSpecification.pageBytes)) { words in
                guard !content.matches(page: page, writes: writes, found: words) else { return }
                result.note(content.mismatches(page: page, writes: writes, found: words))
            }
        }
        return result
    }

    private mutating func note(_ found: (first: ContentModel.Mismatch, wordCount: Int)?) {
        guard let found else { return }
        mismatches += 1
        mismatchedWords += found.wordCount
        if firstMismatches.count < Self.mismatchesKept { firstMismatches.append(found.first) }
    }

    /// The pieces' results, added in whatever order they end.
    private final class Sum: Sendable {
        private let whole = Mutex(Verification())

        func add(_ part: Verification) {
            whole.withLock { whole in
                whole.pages += part.pages
                whole.mismatches += part.mismatches
                whole.mismatchedWords += part.mismatchedWords
                guard !part.firstMismatches.isEmpty else { return }
                let all = (whole.firstMismatches + part.firstMismatches).sorted {
                    $0.page < $1.page
                }
                whole.firstMismatches = Array(all.prefix(mismatchesKept))
            }
        }

        func value() -> Verification { whole.withLock { $0 } }
    }
}

extension WorkloadSpecification {
    /// - Throws: `WorkloadError.memoryLength` unless `ram` is as long as this says.
    func check(_ ram: GuestRAM) throws(WorkloadError) {
        guard ram.geometry.lengthBytes == memoryBytes else {
            throw .memoryLength(
                blockBytes: ram.geometry.lengthBytes, specificationBytes: memoryBytes)
        }
    }
}
