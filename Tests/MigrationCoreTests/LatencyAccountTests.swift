import MigrationCore
import Testing

@Suite("An account of durations")
struct LatencyAccountTests {
    @Test("its summary is that of what was recorded, to a thousandth")
    func summary() {
        var account = LatencyAccount()
        for value in 1...1_000 as ClosedRange<UInt64> { account.record(value * 1_000) }
        let summary = account.summary
        #expect(summary.count == 1_000)
        #expect(summary.meanNanoseconds == 500_500)
        #expect(summary.maxNanoseconds == 1_000_000)
        #expect((500_000...500_600).contains(summary.p50Nanoseconds))
        #expect((990_000...991_000).contains(summary.p99Nanoseconds))
    }

    @Test("nothing, and more than an hour")
    func edges() {
        var account = LatencyAccount()
        let empty = account.summary
        #expect(empty.count == 0)
        #expect(empty.meanNanoseconds == 0)
        #expect(empty.p99Nanoseconds == 0)
        account.record(1 << 62)
        let summary = account.summary
        #expect(summary.maxNanoseconds == UInt64(1 << 62))
        #expect(summary.count == 1)
    }
}
