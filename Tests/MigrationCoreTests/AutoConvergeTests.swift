import MigrationCore
import Testing
import TestSupport

@Suite("AutoConverge")
struct AutoConvergeTests {
    private static let period: UInt64 = 1_000_000_001

    @Test("the second period above half of what was sent raises the throttle, as in QEMU's table")
    func table() {
        // Dirtied and sent in a period, and the throttle that follows it.
        let table: [(dirtied: UInt64, sent: UInt64, throttle: UInt64?)] = [
            (50, 100, nil),  // Half is not more than half.
            (51, 100, nil),  // The first.
            (0, 100, nil),  // A quiet one does not start the count again.
            (51, 100, 20),  // The second.
            (51, 100, nil), (100, 100, 30), (1, 0, nil), (1, 1, 40), (0, 0, nil), (500, 100, nil),
            (500, 100, 50), (9, 9, nil), (9, 9, 60), (9, 9, nil), (9, 9, 70), (9, 9, nil),
            (9, 9, 80),
            (9, 9, nil), (9, 9, 90), (9, 9, nil), (9, 9, 99), (9, 9, nil), (9, 9, nil), (9, 9, nil),
        ]
        var converge = AutoConverge(at: 0)
        var now: UInt64 = 0
        var throttle: UInt64 = 0
        for (index, row) in table.enumerated() {
            now += Self.period
            let answer = converge.note(dirtiedBytes: row.dirtied, sentBytes: row.sent, at: now)
            #expect(answer == row.throttle, "row \(index)")
            throttle = row.throttle ?? throttle
            #expect(converge.percent == throttle)
        }
    }

    @Test("syncs within a second make one period")
    func joinedPeriods() {
        var converge = AutoConverge(at: 0)
        // Each sync alone would count; together they dirtied 40 of 100.
        for index: UInt64 in 1...9 {
            let sent: UInt64 = index == 9 ? 92 : 1
            #expect(converge.note(dirtiedBytes: 4, sentBytes: sent, at: index * 100_000_000) == nil)
        }
        #expect(converge.note(dirtiedBytes: 4, sentBytes: 0, at: 1_000_000_000) == nil)
        #expect(converge.note(dirtiedBytes: 0, sentBytes: 0, at: 1_000_000_001) == nil)
        #expect(converge.note(dirtiedBytes: 9, sentBytes: 9, at: 2_000_000_002) == nil)
        #expect(converge.note(dirtiedBytes: 9, sentBytes: 9, at: 3_000_000_003) == 20)
    }

    @Test(
        "every setting is obeyed, and instants that go back count as none",
        arguments: 0..<100 as Range<UInt64>)
    func againstModel(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let initial = UInt64.random(in: 1...99, using: &random)
        let increment = UInt64.random(in: 1...99, using: &random)
        let most = UInt64.random(in: initial...99, using: &random)
        let settings = try AutoConverge.Settings(
            initialPercent: initial, incrementPercent: increment, maxPercent: most)
        var converge = AutoConverge(settings: settings, at: 7)
        var now: UInt64 = 7
        var highs = 0
        for _ in 0..<100 {
            let dirtied = UInt64.random(in: 0...9, using: &random)
            let sent = UInt64.random(in: 0...9, using: &random)
            #expect(converge.note(dirtiedBytes: 0, sentBytes: 0, at: now - 7) == nil)
            now += Self.period
            let before = converge.percent
            let answer = converge.note(dirtiedBytes: dirtied, sentBytes: sent, at: now)
            // QEMU's integers: `bytes_xfer_period * threshold / 100`.
            if dirtied > sent * 50 / 100 { highs += 1 }
            let steps = highs / 2
            let expected = steps == 0 ? 0 : min(initial + UInt64(steps - 1) * increment, most)
            #expect(converge.percent == expected)
            #expect(answer == (expected == before ? nil : expected))
        }
    }

    @Test("no number of bytes is too large")
    func extremes() {
        var converge = AutoConverge(at: 0)
        for round: UInt64 in 1...4 {
            _ = converge.note(dirtiedBytes: .max, sentBytes: .max, at: round * 400_000_000)
        }
        #expect(converge.note(dirtiedBytes: .max, sentBytes: 0, at: .max) == 20)
    }

    @Test("percentages that cannot be are refused with their value")
    func settings() throws {
        let refused: [((UInt64, UInt64, UInt64), PrecopySettingsError)] = [
            ((0, 10, 99), .throttleInitial(percent: 0)),
            ((100, 10, 99), .throttleInitial(percent: 100)),
            ((20, 0, 99), .throttleIncrement(percent: 0)),
            ((20, 100, 99), .throttleIncrement(percent: 100)),
            ((20, 10, 19), .throttleMax(percent: 19, initial: 20)),
            ((20, 10, 100), .throttleMax(percent: 100, initial: 20)),
        ]
        for (percent, error) in refused {
            #expect(throws: error) {
                try AutoConverge.Settings(
                    initialPercent: percent.0, incrementPercent: percent.1, maxPercent: percent.2)
            }
        }
        #expect(try AutoConverge.Settings() == .usual)
        #expect(
            try AutoConverge.Settings(initialPercent: 1, incrementPercent: 99, maxPercent: 1)
                .maxPercent == 1)
        #expect(
            PrecopySettingsError.throttleMax(percent: 19, initial: 20).description.contains("19 %"))
    }
}
