import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import Testing
import TestSupport

extension RuntimeLaws.BothSidesTests {
    private static let blocks: Pair.Blocks = [
        (name: "low", pages: 200, backing: .anonymous), (name: "high", pages: 9, backing: .memfd),
    ]

    /// Byte by byte where the commands are, then in steps through the pages.
    private static let cuts =
        Array(stride(from: 0, through: 420, by: 3))
        + Array(stride(from: 430, to: 620_000, by: 9_973))

    @Test("a link cut anywhere never leaves two guests running", arguments: [true, false])
    func cut(preempt: Bool) throws {
        let before = Leftovers.now()
        for (index, bytes) in Self.cuts.enumerated() {
            var pair = Pair()
            pair.preempt = preempt
            pair.cutAfter = bytes
            pair.silenceMilliseconds = 1_000
            if index % 2 == 0 { pair.loadTouches = [[0, 150], [1, 3]] }
            let start = Monotonic.now()
            let outcome = try pair.migrate(Self.blocks)
            check(outcome, "cut after \(bytes) bytes")
            #expect(Monotonic.now() - start < 4_000_000_000, "cut after \(bytes) bytes")
        }
        #expect(Leftovers.areGone(since: before))
    }

    private func check(_ outcome: Pair.Outcome, _ note: Comment) {
        let (source, destination) = (outcome.source, outcome.destination)
        #expect(!(outcome.sourceRuns && outcome.destinationRuns), note)
        #expect(source.guestRunsHere == outcome.sourceRuns, note)
        #expect(destination.guestRunsHere == outcome.destinationRuns, note)
        #expect([.completed, .failed, .postcopyPaused].contains(source.status), note)
        #expect([.completed, .failed, .postcopyPaused].contains(destination.status), note)
        #expect(outcome.sourceRuns == (source.status == .failed), note)
        if !outcome.sourceRuns, !outcome.destinationRuns {
            #expect(source.status == .postcopyPaused, note)
        }
        #expect((source.problem == nil) == (source.status == .completed), note)
        #expect((destination.problem == nil) == (destination.status == .completed), note)
        // Zeros that a guest reads while it loads in vain are no wrong pages.
        if destination.status != .failed { #expect(outcome.wrong == 0, note) }
        if source.status == .completed { #expect(destination.status == .completed, note) }
    }

    @Test("fifty migrations leave no thread and no descriptor behind")
    func leftovers() throws {
        let before = Leftovers.now()
        for seed in 0..<50 {
            var pair = Pair()
            pair.preempt = seed % 2 == 0
            pair.refuses = seed % 5 == 4
            _ = try pair.migrate(Self.blocks)
        }
        #expect(Leftovers.areGone(since: before))
    }

    @Test("migrations of any shape", arguments: 0..<200 as Range<UInt64>)
    func soak(seed: UInt64) throws {
        var generator = SeededRandom(seed: seed)
        var pair = Pair()
        pair.seed = seed
        pair.preempt = Bool.random(using: &generator)
        pair.vcpus = Int.random(in: 1...6, using: &generator)
        pair.sameOrder = Bool.random(using: &generator)
        if Bool.random(using: &generator) {
            pair.address = "unix:/tmp/postcopy-soak-\(getpid()).sock"
        }
        let blocks: Pair.Blocks = (0..<Int.random(in: 1...5, using: &generator)).map { index in
            (
                name: "block\(index)", pages: Int.random(in: 1...200, using: &generator),
                backing: Bool.random(using: &generator) ? .anonymous : .memfd
            )
        }
        if Bool.random(using: &generator) {
            pair.loadTouches = [[0, blocks[0].pages / 2], [blocks.count - 1, 0]]
        }
        try pair.complete(blocks, "seed \(seed): \(blocks)")
    }
}
