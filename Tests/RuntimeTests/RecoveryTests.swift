import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// Two sessions and a link that breaks between them.
    @Suite("A link that breaks and comes back")
    struct RecoveryTests {
        static let blocks: Pair.Blocks = [
            (name: "low", pages: 700, backing: .anonymous),
            (name: "high", pages: 90, backing: .memfd),
        ]
        /// The head and the package of such a guest have fewer, and a page has more.
        static let switchBytes = 900
        static let pageBytes = 4096

        @Test("cut at a random byte once the guest moves", arguments: 0..<24 as Range<UInt64>)
        func cut(seed: UInt64) throws {
            var run = try WritingRun(Self.blocks, seed: seed)
            run.options.preempt = seed % 2 == 0
            run.breaks = [run.randomBreak()]
            let outcome = try run.complete("seed \(seed)")
            #expect(outcome.events.count == 1)
            #expect(outcome.source.breaks.count == 1 && outcome.destination.breaks.count == 1)
        }

        @Test(
            "cut three times, once inside the recovery", arguments: 0..<24 as Range<UInt64>)
        func cutThrice(seed: UInt64) throws {
            var run = try WritingRun(Self.blocks, seed: seed)
            run.options.preempt = seed % 2 == 0
            run.breaks = run.threeBreaks()
            let outcome = try run.complete("seed \(seed)")
            // The last one may be planned behind the end.
            #expect((2...3).contains(outcome.events.count), "seed \(seed)")
        }

        @Test(
            "cut behind every few bytes of a recovery", arguments: [false, true], [false, true])
        func insideRecovery(isFromSource: Bool, preempt: Bool) throws {
            for bytes in stride(from: 0, to: 200, by: 7) {
                var run = try WritingRun(Self.blocks, seed: UInt64(bytes))
                run.options.preempt = preempt
                run.breaks = [
                    Break(place: .fromSource(Self.switchBytes + 100 * Self.pageBytes)),
                    Break(place: isFromSource ? .fromSource(bytes) : .fromDestination(bytes)),
                ]
                let outcome = try run.complete("from the source \(isFromSource), \(bytes) bytes")
                #expect(outcome.events.count == 2)
            }
        }

        @Test("cut before RESUME_ACK arrives", arguments: [false, true])
        func beforeAcknowledgement(preempt: Bool) throws {
            var run = try WritingRun(Self.blocks, seed: 5)
            run.options.preempt = preempt
            run.breaks = [
                Break(place: .fromSource(Self.switchBytes + 100 * Self.pageBytes)),
                Break(place: .beforeAcknowledgement), Break(place: .beforeAcknowledgement),
            ]
            let outcome = try run.complete("before RESUME_ACK")
            #expect(outcome.events.count == 3)
            #expect(outcome.source.breaks.count == 1)
            #expect(outcome.source.breaks.first?.attempts == 3)
            // As far as the destination knows, pages could flow each time.
            #expect(outcome.destination.breaks.map(\.attempts) == [1, 1, 1])
        }

        @Test("cut before SHUT arrives", arguments: [false, true])
        func beforeShut(preempt: Bool) throws {
            var run = try WritingRun(Self.blocks, seed: 6)
            run.options.preempt = preempt
            run.breaks = [Break(place: .beforeShut)]
            let outcome = try run.complete("before SHUT")
            #expect(outcome.events.count == 1)
        }

        @Test("the urgent channel alone is cut", arguments: 0..<6 as Range<UInt64>)
        func urgent(seed: UInt64) throws {
            var run = try WritingRun(Self.blocks, seed: seed)
            run.breaks = [run.randomBreak(.urgent)]
            let outcome = try run.complete("seed \(seed)")
            #expect(outcome.events.count == 1)
        }

        @Test("half-open: silence is a break, on both sides", arguments: [false, true])
        func frozen(preempt: Bool) throws {
            var run = try WritingRun(Self.blocks, seed: 7)
            run.options = recoveringOptions(preempt: preempt, limitMilliseconds: 250)
            run.breaks = [
                Break(
                    place: .fromSource(Self.switchBytes + 50 * Self.pageBytes), kind: .freeze,
                    lastingNanoseconds: 700_000_000)
            ]
            let outcome = try run.complete("half-open")
            let event = try #require(outcome.events.first)
            for breaks in [outcome.source.breaks, outcome.destination.breaks] {
                let pause = try #require(
                    breaks.first { $0.pausedAtNanoseconds > event.atNanoseconds })
                #expect(pause.pausedAtNanoseconds < event.atNanoseconds + 5_000_000_000)
            }
        }

        @Test(
            "pages of 2 MiB",
            .enabled(if: HugePagePool.canHold(24), "needs 24 free huge pages of 2 MiB"),
            arguments: 0..<6 as Range<UInt64>)
        func huge(seed: UInt64) throws {
            let pool = HugePagePool(reserving: 24)
            defer { pool.release() }
            var run = try WritingRun(
                [
                    (name: "huge", pages: 10, backing: .hugetlb),
                    (name: "small", pages: 257, backing: .anonymous),
                ], seed: seed)
            run.options.preempt = seed % 2 == 0
            run.breaks = seed % 3 == 2 ? run.threeBreaks() : [run.randomBreak()]
            let outcome = try run.complete("seed \(seed)")
            #expect(!outcome.events.isEmpty)
        }
    }
}

/// A migration of a guest that writes all the time, and a seed that says where its link breaks.
struct WritingRun {
    let source: WritingGuest
    let destination: WritingGuest
    var options = recoveringOptions()
    var breaks: [Break] = []
    private var generator: SeededRandom
    private let pageCount: Int

    init(_ blocks: Pair.Blocks, seed: UInt64) throws {
        generator = SeededRandom(seed: seed)
        source = try WritingGuest(blocks: blocks, seed: seed)
        destination = try WritingGuest(blocks: blocks, counts: source.counts, seed: seed &+ 1)
        pageCount = source.memory.reduce(0) { $0 + $1.geometry.targetPageCount }
        for (block, ram) in source.memory.enumerated() {
            for page in 0..<ram.geometry.targetPageCount { source.write(block, page) }
        }
    }

    private var bytes: Int { pageCount * RuntimeLaws.RecoveryTests.pageBytes }

    /// Somewhere between the switch and the end.
    mutating func randomBreak(_ kind: Break.Kind = .cut, lastingNanoseconds: UInt64 = 0) -> Break {
        let start = RuntimeLaws.RecoveryTests.switchBytes
        let place = Int.random(in: start..<start + bytes, using: &generator)
        return Break(
            place: .fromSource(place), kind: kind, lastingNanoseconds: lastingNanoseconds)
    }

    /// One among the pages, one inside the recovery that follows, one among the pages behind it.
    mutating func threeBreaks(lastingNanoseconds: [UInt64] = [0, 0, 0]) -> [Break] {
        let inside: Break.Place =
            switch generator.below(3) {
            case 0: .fromSource(generator.below(100))
            case 1: .fromDestination(generator.below(100))
            default: .beforeAcknowledgement
            }
        let first = RuntimeLaws.RecoveryTests.switchBytes + generator.below(bytes / 2)
        return [
            Break(place: .fromSource(first), lastingNanoseconds: lastingNanoseconds[0]),
            Break(place: inside, lastingNanoseconds: lastingNanoseconds[1]),
            Break(
                place: .fromSource(200 + generator.below(bytes / 3)),
                lastingNanoseconds: lastingNanoseconds[2]),
        ]
    }

    /// Runs it and expects every page as the guest wrote it last.
    func complete(
        _ note: String, line: SourceLocation = #_sourceLocation
    ) throws -> BrokenMigration.Outcome {
        let migration = BrokenMigration(
            source: source, destination: destination, options: options, breaks: breaks)
        let outcome = try migration.run(note)
        let comment = Comment(rawValue: note)
        outcome.expectCompleted(comment, line: line)
        #expect(!source.isRunning && destination.isRunning, comment, sourceLocation: line)
        let haveStopped = source.stop() && destination.stop()
        #expect(haveStopped, "a vCPU hangs: \(note)", sourceLocation: line)
        #expect(
            source.counts.mismatches.load(ordering: .relaxed) == 0, comment, sourceLocation: line)
        #expect(destination.wrongPages() == 0, comment, sourceLocation: line)
        return outcome
    }
}
