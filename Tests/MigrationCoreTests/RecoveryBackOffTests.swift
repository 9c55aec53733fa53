import MigrationCore
import Testing

@Suite("when a source knocks again")
struct RecoveryBackOffTests {
    @Test("the step that is reported is the time that was waited", arguments: 1...3)
    func step(addressCount: Int) throws {
        var schedule = RecoverySchedule(
            addressCount: addressCount, from: 1_000, lastingNanoseconds: nil)
        var now: UInt64 = 1_000
        var steps: [UInt64] = []
        for attempt in 0..<addressCount * 10 {
            let due = try #require(schedule.nextAttemptNanoseconds)
            #expect(schedule.stepNanoseconds == due - now, "attempt \(attempt)")
            if attempt % addressCount == 0 { steps.append(due - now) }
            #expect(schedule.begin() == attempt % addressCount)
            now = due + 5
            schedule.failed(at: now)
        }
        let milliseconds: [UInt64] = [0, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]
        #expect(steps == milliseconds.map { $0 * 1_000_000 })
    }

    @Test("a link that breaks again at once is waited for longer, and for as long as any")
    func flapping() throws {
        let (second, lasting) = (1_000_000_000 as UInt64, 300_000_000_000 as UInt64)
        var first = RecoverySchedule(addressCount: 1, from: 0, lastingNanoseconds: lasting)
        var now: UInt64 = 0
        for _ in 0..<5 {
            now = try #require(first.nextAttemptNanoseconds)
            _ = first.begin()
            first.failed(at: now)
        }
        now = 299 * second
        var next = RecoverySchedule(addressCount: 1, from: now, lastingNanoseconds: lasting)
        next.resume(from: first, at: now)
        #expect(next.stepNanoseconds == 2 * first.stepNanoseconds)
        #expect(next.nextAttemptNanoseconds == now + next.stepNanoseconds)
        var last = now
        while let due = next.nextAttemptNanoseconds {
            last = due
            _ = next.begin()
            next.failed(at: due)
        }
        #expect(last > now + lasting - 2 * second)
    }
}
