import FlightRecorder
import TestSupport
import Testing

@Suite("the two hosts' clocks")
struct ClockOffsetTests {
    @Test("the truth lies within the stated error", arguments: 0..<1000 as Range<UInt64>)
    func truth(seed: UInt64) throws {
        let (log, truth, nearest) = Self.exchange(seed: seed, driftPerMillion: 0)
        let clock = try #require(ClockOffset(log))
        #expect((clock.nanoseconds &- truth).magnitude <= clock.errorNanoseconds)
        // No worse than the best exchange alone would say.
        #expect(clock.errorNanoseconds <= nearest / 2 + 1)
        #expect(!clock.isShared)
    }

    @Test(
        "clocks that drift apart are compared to within what they drift",
        arguments: 0..<200 as Range<UInt64>)
    func drift(seed: UInt64) throws {
        let (log, truth, _) = Self.exchange(seed: seed, driftPerMillion: 200)
        let clock = try #require(ClockOffset(log))
        // 200 waits, a second apart.
        let drifted: UInt64 = 200 * 200_000
        #expect((clock.nanoseconds &- truth).magnitude <= clock.errorNanoseconds + drifted)
    }

    @Test("on one host there is nothing to estimate, and with one side nothing to say")
    func sides() {
        #expect(ClockOffset(.made([]))?.isShared == true)
        #expect(ClockOffset(.made([], nil)) == nil)
        var log = FaultLog.made([], [])
        log.source?.side.bootID = "there"
        #expect(ClockOffset(log) == nil)
    }

    /// Waits and services on two clocks, the offset of the source's at the beginning, and the shortest
    /// round trip.
    private static func exchange(
        seed: UInt64, driftPerMillion: UInt64
    ) -> (log: FaultLog, truth: Int64, nearest: UInt64) {
        var random = SeededRandom(seed: seed)
        let offset = Int64.random(in: -1_000_000_000_000...1_000_000_000_000, using: &random)
        var (waits, services): ([WaitRecord], [ServiceRecord]) = ([], [])
        var now: UInt64 = 2_000_000_000_000
        var nearest = UInt64.max
        for page in 0..<200 as Range<UInt64> {
            now += 1_000_000_000
            let drift = Int64(page * 1_000 * driftPerMillion)
            func source(_ instant: UInt64) -> UInt64 { UInt64(Int64(instant) + offset + drift) }
            let there = 10_000 + UInt64(random.below(90_000))
            let back = 5_000 + UInt64(random.below(random.below(10) == 0 ? 20_000_000 : 50_000))
            let received = now + there
            let begun = received + UInt64(random.below(50_000))
            let firstByte = begun + back
            // Either side may note an end later than the other side its beginning.
            waits.append(
                WaitRecord(
                    now - 1_000, read: now, requested: now + there + 5_000, firstByte: firstByte,
                    placed: firstByte + 9_000, ended: firstByte + 9_000, page: page))
            services.append(
                ServiceRecord(
                    source(received), begun: source(begun), written: source(firstByte + 7_000),
                    page: page))
            nearest = min(nearest, there + back)
        }
        var log = FaultLog.made(waits, services)
        log.source?.side.bootID = "there"
        return (log, offset, nearest)
    }
}
