import FlightRecorder
import TestSupport
import Testing

@Suite("the two hosts' clocks")
struct ClockOffsetTests {
    @Test(
        "the truth lies within the stated error", arguments: 0..<1000 as Range<UInt64>,
        [true, false])
    func truth(seed: UInt64, hasUrgent: Bool) throws {
        let made = Self.exchange(seed: seed, driftPerMillion: 0, hasUrgent: hasUrgent)
        let clock = try #require(ClockOffset(made.log))
        for truth in made.truths {
            #expect((clock.nanoseconds &- truth).magnitude <= clock.errorNanoseconds)
        }
        // No worse than the best exchange alone would say.
        #expect(clock.errorNanoseconds <= made.nearest / 2 + 1)
        #expect(!clock.isShared)
    }

    @Test(
        "of clocks that drift apart the error covers every wait",
        arguments: 0..<200 as Range<UInt64>, [-300, 200])
    func drift(seed: UInt64, perMillion: Int64) throws {
        let made = Self.exchange(seed: seed, driftPerMillion: perMillion)
        let clock = try #require(ClockOffset(made.log))
        for truth in made.truths {
            #expect((clock.nanoseconds &- truth).magnitude <= clock.errorNanoseconds)
        }
    }

    @Test("a wait that lasted long says little where clocks drift, and takes little away")
    func longWait() throws {
        var (waits, services): ([WaitRecord], [ServiceRecord]) = ([], [])
        for page in 0..<3 as Range<UInt64> {
            let asked = (page + 1) * 1_000_000_000
            let drifted = asked + page * 100_000
            let arrived = asked + (page == 1 ? 30_000_000_000 : 10_000)
            waits.append(
                WaitRecord(
                    asked, read: asked, requested: asked, firstByte: arrived, placed: arrived,
                    ended: arrived, page: page))
            services.append(ServiceRecord(drifted + 5_000, begun: drifted + 6_000, page: page))
        }
        var log = FaultLog.made(waits, services)
        log.source?.side.bootID = "there"
        let clock = try #require(ClockOffset(log))
        // A second's drift at most, either side of what the other two allow.
        #expect(clock.errorNanoseconds < 3_000_000)
        #expect(clock.nanoseconds.magnitude <= clock.errorNanoseconds)
        #expect((clock.nanoseconds - 200_000).magnitude <= clock.errorNanoseconds)
    }

    @Test("on one host there is nothing to estimate, and with one side nothing to say")
    func sides() {
        #expect(ClockOffset(.made([]))?.isShared == true)
        #expect(ClockOffset(.made([], nil)) == nil)
        var log = FaultLog.made([], [])
        log.source?.side.bootID = "there"
        #expect(ClockOffset(log) == nil)
    }

    /// Waits and services on two clocks, the offset of the source's at each wait, and the shortest round
    /// trip.
    private static func exchange(
        seed: UInt64, driftPerMillion: Int64, hasUrgent: Bool = true
    ) -> (log: FaultLog, truths: [Int64], nearest: UInt64) {
        var random = SeededRandom(seed: seed)
        let offset = Int64.random(in: -1_000_000_000_000...1_000_000_000_000, using: &random)
        var (waits, services): ([WaitRecord], [ServiceRecord]) = ([], [])
        var now: UInt64 = 2_000_000_000_000
        var nearest = UInt64.max
        var truths: [Int64] = []
        for page in 0..<200 as Range<UInt64> {
            now += 1_000_000_000
            let truth = offset + Int64(page) * 1_000 * driftPerMillion
            truths.append(truth)
            func source(_ instant: UInt64) -> UInt64 { UInt64(Int64(instant) + truth) }
            let there = 10_000 + UInt64(random.below(90_000))
            let back = 5_000 + UInt64(random.below(random.below(10) == 0 ? 20_000_000 : 50_000))
            let received = now + there
            let begun = received + UInt64(random.below(50_000))
            let firstByte = begun + back
            let placed = hasUrgent ? firstByte + 9_000 : firstByte
            // Either side may note an end later than the other side its beginning.
            waits.append(
                WaitRecord(
                    now - 1_000, read: now, requested: now + there + 5_000,
                    firstByte: hasUrgent ? firstByte : 0, placed: placed, ended: placed,
                    flags: hasUrgent ? [.kernelTimed, .urgent] : .kernelTimed, page: page))
            services.append(
                ServiceRecord(
                    source(received), begun: source(begun), written: source(firstByte + 7_000),
                    page: page))
            nearest = min(nearest, there + back)
        }
        var log = FaultLog.made(waits, services)
        log.source?.side.bootID = "there"
        return (log, truths, nearest)
    }
}
