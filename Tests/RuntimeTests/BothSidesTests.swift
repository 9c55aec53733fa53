import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import Testing

/// One migration between two sessions of ours.
struct Pair {
    typealias Outcome = TwoGuests.Outcome
    typealias Blocks = [(name: String, pages: Int, backing: RAMBacking)]

    var preempt = true
    var address = "tcp:127.0.0.1:0"
    var vcpus = 2
    var sameOrder = false
    var refuses = false
    var loadTouches: [[Int]] = []
    var pagesWithContent: Set<[Int]>?
    var seed: UInt64 = 1
    /// Bytes after which a proxy cuts the link; `nil` for none in between.
    var cutAfter: Int?
    var silenceMilliseconds: UInt64 = 10_000
    var maxPostcopyBandwidth: UInt64?

    /// Runs it to its end; throws when something hangs.
    func migrate(_ blocks: Blocks) throws -> Outcome {
        var options = testOptions(preempt: preempt, silenceMilliseconds: silenceMilliseconds)
        options.maxPostcopyBandwidth = maxPostcopyBandwidth
        let from = try PatternGuest(blocks: blocks)
        let to = try PatternGuest(
            blocks: blocks, vcpuCount: vcpus, seed: seed, refusesDevices: refuses,
            loadTouches: loadTouches, sameOrder: sameOrder)
        if let pagesWithContent {
            from.fill(only: pagesWithContent)
            to.expect(only: pagesWithContent)
        } else {
            from.fill()
        }
        return try TwoGuests(
            from: from, to: to, sends: options, receives: options, address: address,
            cutAfter: cutAfter
        ).migrate()
    }

    /// Runs it and expects it to complete.
    @discardableResult
    func complete(
        _ blocks: Blocks, _ note: Comment? = nil, line: SourceLocation = #_sourceLocation
    ) throws -> Outcome {
        let outcome = try migrate(blocks)
        outcome.expectCompleted(note, line: line)
        return outcome
    }
}

extension RuntimeLaws {
    @Suite("Both sides")
    struct BothSidesTests {
        @Test("a refused device state leaves the guest running at the source")
        func refuses() throws {
            var pair = Pair()
            pair.refuses = true
            let outcome = try pair.migrate([(name: "low", pages: 100, backing: .anonymous)])
            #expect(outcome.source.status == .failed)
            #expect(outcome.destination.status == .failed)
            #expect(outcome.source.guestRunsHere && outcome.sourceRuns)
            #expect(!outcome.destination.guestRunsHere && !outcome.destinationRuns)
            #expect(outcome.destination.problem?.contains("not my devices") == true)
            let reason = try #require(outcome.destination.problem)
            #expect(outcome.source.problem == "the destination refused: \(reason)")
        }

        @Test(
            "huge and small pages together",
            .enabled(if: HugePagePool.canHold(24), "needs 24 free huge pages of 2 MiB"),
            arguments: [true, false])
        func huge(preempt: Bool) throws {
            let pool = HugePagePool(reserving: 24)
            defer { pool.release() }
            var pair = Pair()
            pair.preempt = preempt
            pair.loadTouches = [[0, 1_000], [1, 5]]
            try pair.complete([
                (name: "huge", pages: 10, backing: .hugetlb),
                (name: "small", pages: 257, backing: .anonymous),
            ])
        }

        @Test("64 vCPUs fault in the same pages in the same order", arguments: [true, false])
        func crowd(preempt: Bool) throws {
            var pair = Pair()
            pair.preempt = preempt
            pair.vcpus = 64
            pair.sameOrder = true
            try pair.complete([(name: "low", pages: 500, backing: .anonymous)])
            try pair.complete([(name: "low", pages: 1, backing: .memfd)])
        }

        @Test("600 vCPUs fault at once over a unix socket", arguments: [true, false])
        func multitude(preempt: Bool) throws {
            var pair = Pair()
            pair.preempt = preempt
            pair.vcpus = 600
            pair.address = "unix:/tmp/postcopy-test-\(getpid()).sock"
            pair.silenceMilliseconds = 3_000
            try pair.complete([(name: "low", pages: 2_000, backing: .anonymous)])
        }

        @Test("devices that touch memory while they load", arguments: [true, false])
        func loads(preempt: Bool) throws {
            var pair = Pair()
            pair.preempt = preempt
            pair.loadTouches = [[0, 3_999], [0, 0], [1, 2], [0, 2_000]]
            try pair.complete([
                (name: "low", pages: 4_000, backing: .anonymous),
                (name: "high", pages: 3, backing: .memfd),
            ])
        }

        @Test("all zeros, one page, one page in each of many blocks")
        func shapes() throws {
            var pair = Pair()
            pair.pagesWithContent = []
            try pair.complete([
                (name: "low", pages: 300, backing: .anonymous),
                (name: "high", pages: 300, backing: .memfd),
            ])
            pair.pagesWithContent = nil
            try pair.complete([(name: "only", pages: 1, backing: .anonymous)])
            let many: Pair.Blocks = (0..<40).map { index in
                (name: "b\(index)", pages: 1, backing: index % 2 == 0 ? .anonymous : .memfd)
            }
            try pair.complete(many)
        }
    }
}
