import MigrationCore
import Testing
import TestSupport

@Suite("TransferRates")
struct TransferRatesTests {
    private static let millisecond: UInt64 = 1_000_000

    @Test("until the first window is over, the rate is that of the time so far")
    func beginning() {
        var rates = TransferRates(pageSizeBytes: 4096, at: 5)
        #expect(rates.bytesPerSecond == 0)
        rates.noteSent(bytes: 4096, pages: 1, at: 5)
        #expect(rates.bytesPerSecond == 0, "no time has passed")
        rates.noteSent(bytes: 8192, pages: 2, at: 5 + 10 * Self.millisecond)
        #expect(rates.bytesPerSecond == 819_200)
        #expect(rates.pagesPerSecond == 200)
    }

    @Test("each window counts half as much with each that follows")
    func smoothing() {
        var rates = TransferRates(pageSizeBytes: 4096, at: 0)
        var total: UInt64 = 0
        var expected: UInt64?
        for (index, bytes): (UInt64, UInt64) in [
            (1, 1_000), (2, 3_000), (3, 5_000), (4, 0), (5, 8_000),
        ] {
            total += bytes
            let now = index * 100 * Self.millisecond
            rates.noteSent(bytes: total, pages: total / 10, at: now)
            expected = expected.map { ($0 + bytes * 10) / 2 } ?? bytes * 10
            #expect(rates.bytesPerSecond == expected)
            // An open window changes nothing.
            rates.noteSent(bytes: total, pages: total / 10, at: now + 1)
            #expect(rates.bytesPerSecond == expected)
        }
        #expect(rates.pagesPerSecond == 4_875)
    }

    @Test("the time that a sync takes is no time of sending")
    func syncTime() {
        var rates = TransferRates(pageSizeBytes: 4096, at: 0)
        var now: UInt64 = 0
        var bytes: UInt64 = 0
        for _ in 0..<100 {
            for _ in 0..<5 {
                now += Self.millisecond
                bytes += 1_000
                rates.noteSent(bytes: bytes, pages: 0, at: now)
            }
            now += 50 * Self.millisecond
            rates.noteSync(newlyDirtyPages: 11, at: now)
        }
        #expect(rates.bytesPerSecond == 1_000_000)
        #expect(rates.dirtyPagesPerSecond == 200)
        #expect(rates.dirtyBytesPerSecond == 819_200)
    }

    @Test("the dirty rate is that between the last two syncs, and a sync at the same instant waits")
    func dirtyRate() {
        var rates = TransferRates(pageSizeBytes: 4096, at: 0)
        rates.noteSync(newlyDirtyPages: 7, at: 0)
        #expect(rates.dirtyPagesPerSecond == 0)
        rates.noteSync(newlyDirtyPages: 3, at: 500 * Self.millisecond)
        #expect(rates.dirtyPagesPerSecond == 20)
        rates.noteSync(newlyDirtyPages: 100, at: 400 * Self.millisecond)
        #expect(rates.dirtyPagesPerSecond == 20)
        rates.noteSync(newlyDirtyPages: 0, at: 1_000 * Self.millisecond)
        #expect(rates.dirtyPagesPerSecond == 200)
        rates.noteSync(newlyDirtyPages: 0, at: 1_500 * Self.millisecond)
        #expect(rates.dirtyPagesPerSecond == 0)
    }

    @Test("the expected downtime is the rest over what content takes, once some was sent")
    func downtime() {
        var rates = TransferRates(pageSizeBytes: 4096, at: 0)
        #expect(rates.expectedDowntimeNanoseconds(remainingBytes: 1) == nil)
        #expect(rates.expectedDowntimeNanoseconds(remainingBytes: 0) == 0)
        rates.noteSent(bytes: 9_000, pages: 1_000, at: 1_000 * Self.millisecond)
        #expect(rates.memoryBytesPerSecond == 4_096_000)
        #expect(rates.expectedDowntimeNanoseconds(remainingBytes: 1_024_000) == 250_000_000)
        // Content at 1 MB/s, then zero pages that pass a thousand times faster.
        rates.noteSent(bytes: 1_009_000, pages: 1_240, at: 2_000 * Self.millisecond)
        rates.noteSent(bytes: 10_009_000, pages: 1_001_240, at: 3_000 * Self.millisecond)
        #expect(rates.memoryBytesPerSecond == 1_000_000)
        #expect(rates.expectedDowntimeNanoseconds(remainingBytes: 250_000) == 250_000_000)
        #expect(rates.expectedDowntimeNanoseconds(remainingBytes: .max) == .max)
    }

    @Test("no total and no instant is too large, and none that goes back counts")
    func extremes() {
        let numbers: [UInt64] = [0, 1, 99_999_999, 100_000_000, 1 << 63, .max]
        for seed in 0..<200 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let pageSize = numbers[random.below(6)]
            var rates = TransferRates(pageSizeBytes: pageSize, at: numbers[random.below(6)])
            for _ in 0..<20 {
                let instant = numbers[random.below(6)]
                if random.below(2) == 0 {
                    rates.noteSent(
                        bytes: numbers[random.below(6)], pages: numbers[random.below(6)],
                        at: instant)
                } else {
                    rates.noteSync(newlyDirtyPages: numbers[random.below(6)], at: instant)
                }
                let downtime = rates.expectedDowntimeNanoseconds(remainingBytes: .max)
                #expect((downtime == nil) == (rates.memoryBytesPerSecond == 0))
                if pageSize > 0 {
                    #expect(rates.dirtyBytesPerSecond >= rates.dirtyPagesPerSecond)
                }
            }
        }
        var rates = TransferRates(pageSizeBytes: 4096, at: 0)
        rates.noteSent(bytes: .max, pages: .max, at: 1)
        #expect(rates.bytesPerSecond == .max)
        rates.noteSync(newlyDirtyPages: .max, at: 1)
        rates.noteSync(newlyDirtyPages: .max, at: 1)
        #expect(rates.dirtyBytesPerSecond == .max)
        rates.noteSent(bytes: 0, pages: 0, at: 0)
        #expect(rates.bytesPerSecond == .max)
    }
}
