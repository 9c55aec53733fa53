import FlightRecorder
import Testing

@Suite("recorded waits beside what threads saw")
struct ProbeComparisonTests {
    private func wait(_ began: UInt64, _ ended: UInt64) -> WaitRecord {
        var record = WaitRecord()
        record.began = began
        record.ended = ended
        return record
    }

    private func compare(
        _ waits: [WaitRecord], _ accesses: [LongAccess], isComplete: Bool = true
    ) -> ProbeComparison {
        var comparison = ProbeComparison()
        comparison.add(waits: waits, accesses: accesses, isComplete: isComplete)
        return comparison
    }

    @Test("bounds a wait by the access that it lies in")
    func bounds() {
        let seen = compare([wait(105, 180)], [LongAccess(start: 100, end: 200)])
        #expect(seen.matchedWaits == 1 && seen.unmatchedWaits == 0 && seen.otherAccesses == 0)
        #expect(seen.earlyNanoseconds == 5 && seen.lateNanoseconds == 20)
    }

    @Test("an access may hold several waits, and none")
    func severalAndNone() {
        let seen = compare(
            [wait(110, 120), wait(130, 195)],
            [
                LongAccess(start: 50, end: 90), LongAccess(start: 100, end: 200),
                LongAccess(start: 300, end: 340),
            ])
        #expect(seen.matchedWaits == 2 && seen.otherAccesses == 2 && seen.otherNanoseconds == 80)
        #expect(seen.earlyNanosecondsMax == 10 && seen.lateNanosecondsMax == 5)
    }

    @Test("says by how much a wait was recorded too long")
    func over() {
        let seen = compare([wait(150, 210)], [LongAccess(start: 100, end: 200)])
        #expect(seen.matchedWaits == 1 && seen.lateNanoseconds == 0)
        #expect(seen.overNanoseconds == 10 && seen.overNanosecondsMax == 10)
    }

    @Test("a wait outside every access is no wait of that thread")
    func outside() {
        let access = LongAccess(start: 100, end: 200)
        #expect(compare([wait(90, 150)], [access]).unmatchedWaits == 1)
        #expect(compare([wait(205, 210)], [access]).unmatchedWaits == 1)
        // Accesses of that time may have been left out.
        #expect(compare([wait(205, 210)], [access], isComplete: false).unmatchedWaits == 0)
    }
}
