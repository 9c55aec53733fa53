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
}
