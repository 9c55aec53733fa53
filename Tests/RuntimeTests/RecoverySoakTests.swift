import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

/// A number that the environment may raise.
func environmentCount(_ name: String, default usual: Int) -> Int {
    guard let text = unsafe getenv(name) else { return usual }
    return unsafe Int(String(cString: text)) ?? usual
}

extension RuntimeLaws {
    /// Many migrations with breaks, measured.
    @Suite("Breaks by the hundred")
    struct RecoverySoakTests {
        /// `POSTCOPY_BREAKS=300`: so many of 256 MiB with one cut, and a third as many with three.
        private static let breaks = environmentCount("POSTCOPY_BREAKS", default: 4)
        /// `POSTCOPY_SOAK=500`: migrations in one process.
        private static let soak = environmentCount("POSTCOPY_SOAK", default: 36)
        private static let first = UInt64(environmentCount("POSTCOPY_SEED", default: 0))
        private static let isWhole = breaks >= 100
        /// What a loaded machine makes of it is measured there, and must not fail a test.
        private static let limitMilliseconds: UInt64 = breaks > 4 ? 250 : 20_000

        private static let blocks: Pair.Blocks = [
            (name: "low", pages: isWhole ? 61_000 : 2_000, backing: .anonymous),
            (name: "high", pages: isWhole ? 4_536 : 100, backing: .memfd),
        ]

        @Test("cuts at random, with nobody at hand; how long they last", arguments: [1, 3])
        func random(cuts: Int) throws {
            var times = BreakTimes()
            let count = cuts == 1 ? Self.breaks : max(2, Self.breaks / 3)
            for seed in Self.first..<Self.first + UInt64(count) {
                var run = try WritingRun(Self.blocks, seed: seed)
                var generator = SeededRandom(seed: ~seed)
                run.options = recoveringOptions(
                    preempt: seed % 2 == 0, limitMilliseconds: Self.limitMilliseconds)
                let down = (0..<3).map { _ in UInt64(generator.below(400)) * 1_000_000 }
                run.breaks =
                    cuts == 1
                    ? [run.randomBreak(lastingNanoseconds: down[0])]
                    : run.threeBreaks(lastingNanoseconds: down)
                let outcome = try run.complete("seed \(seed), \(cuts) cuts")
                #expect(!outcome.events.isEmpty, "seed \(seed)")
                times.note(outcome)
            }
            #expect(times.migrations == count)
            print(times.description)
        }

        @Test("migrations with breaks leave nothing behind in their process")
        func soak() throws {
            var before: (Leftovers, memoryKiB: Int)?
            for seed in 0..<UInt64(Self.soak) {
                // What a process needs once is there after a while.
                if seed == UInt64(Self.soak / 3) { before = (Leftovers.now(), Self.memoryKiB()) }
                var run = try WritingRun(
                    [
                        (name: "low", pages: 900, backing: .anonymous),
                        (name: "high", pages: 100, backing: .memfd),
                    ], seed: seed)
                run.options.preempt = seed % 2 == 0
                run.breaks = seed % 3 == 0 ? run.threeBreaks() : [run.randomBreak()]
                _ = try run.complete("seed \(seed)")
            }
            let start = try #require(before)
            #expect(Leftovers.areGone(since: start.0))
            let grown = Self.memoryKiB() - start.memoryKiB
            print(
                "soak: \(Self.soak) migrations, memory \(start.memoryKiB) KiB, grown by \(grown) KiB"
            )
            // One guest is 4 MiB: less than two of them, after dozens.
            #expect(grown < 8 << 10)
        }

        /// What of this process is in memory and its own.
        private static func memoryKiB() -> Int {
            guard let file = unsafe fopen("/proc/self/status", "r") else { return 0 }
            defer { _ = unsafe fclose(file) }
            var line = [CChar](repeating: 0, count: 256)
            while unsafe fgets(&line, 256, file) != nil {
                let text = String(
                    decoding: line.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
                guard text.hasPrefix("RssAnon:") else { continue }
                return Int(text.filter(\.isNumber)) ?? 0
            }
            return 0
        }
    }
}

/// How long breaks lasted.
private struct BreakTimes: CustomStringConvertible {
    private(set) var migrations = 0
    private var cuts = 0
    /// Breaks that no cut explains: a machine so busy that a living peer was silent.
    private var others = 0
    /// Milliseconds, by what they measure.
    private var series: [Measure: [Double]] = [:]

    private enum Measure: String, CaseIterable {
        case sourcePause = "cut -> paused, source"
        case destinationPause = "cut -> paused, destination"
        case firstPage = "link back -> first page"
        case withoutBackOff = "link back -> first page, minus the back-off step"
        case fromConnection = "connected -> first page"
    }

    /// Longer than a busy machine explains: told with all that is known.
    private static let longMilliseconds = 50.0
    /// What is said of a peer that is not heard: a cut is seen at once.
    private static let silences = ["silent", "brought nothing", "reads nothing"]

    mutating func note(_ outcome: BrokenMigration.Outcome) {
        migrations += 1
        cuts += outcome.events.count
        let all = outcome.source.breaks + outcome.destination.breaks
        let unplanned = all.filter { one in Self.silences.contains { one.problem.contains($0) } }
        others += unplanned.count
        if !unplanned.isEmpty { print(unplanned.map(\.problem)) }
        let ends = outcome.events.dropFirst().map(\.atNanoseconds) + [.max]
        for (event, end) in zip(outcome.events, ends) {
            let span = event.atNanoseconds..<end
            add(Self.pause(outcome.source.changes, in: span), since: event, as: .sourcePause)
            add(
                Self.pause(outcome.destination.changes, in: span), since: event,
                as: .destinationPause)
            noteReturn(event, span, outcome)
        }
    }

    private static func pause(_ changes: [StatusChange], in span: Range<UInt64>) -> UInt64? {
        changes.first { $0.status == .postcopyPaused && span.contains($0.atNanoseconds) }?
            .atNanoseconds
    }

    private mutating func add(
        _ instant: UInt64?, since event: BreakingProxy.Event, as measure: Measure
    ) {
        guard let instant else { return }
        series[measure, default: []].append(Double(instant - event.atNanoseconds) / 1e6)
    }

    private mutating func noteReturn(
        _ event: BreakingProxy.Event, _ span: Range<UInt64>, _ outcome: BrokenMigration.Outcome
    ) {
        let firstPage = outcome.destination.breaks.compactMap(\.firstPageAtNanoseconds)
            .first(where: span.contains)
        // Of the link before it may be told late that it had come back.
        let linkBreak = outcome.source.breaks.first {
            $0.linkBackAtNanoseconds.map(span.contains) ?? false
        }
        guard let firstPage, let linkBreak, let connected = linkBreak.linkBackAtNanoseconds else {
            return
        }
        let wait = Double(firstPage - min(firstPage, event.backAtNanoseconds)) / 1e6
        let step = Double(linkBreak.backOffNanoseconds) / 1e6
        series[.firstPage, default: []].append(wait)
        series[.withoutBackOff, default: []].append(max(0, wait - step))
        let whole = Double(firstPage - min(firstPage, connected)) / 1e6
        series[.fromConnection, default: []].append(whole)
        if whole > Self.longMilliseconds {
            print("\(whole) ms: \(event)\n\(outcome.source.breaks)\n\(outcome.destination.breaks)")
        }
    }

    var description: String {
        let head = "\(migrations) migrations, \(cuts) cuts, \(others) other breaks (ms):"
        let lines = Measure.allCases.compactMap { measure -> String? in
            guard let values = series[measure]?.sorted(), let last = values.last else { return nil }
            let (median, high) = (values[values.count / 2], values[values.count * 99 / 100])
            let numbers = [median, high, last].map { "\(Double(Int($0 * 100)) / 100)" }
            return "  \(measure.rawValue): median \(numbers[0]), 99th percentile \(numbers[1]), "
                + "max \(numbers[2]) of \(values.count)"
        }
        return ([head] + lines).joined(separator: "\n")
    }
}
