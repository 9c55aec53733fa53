import MigrationCore
import TestSupport
import Testing

@Suite("RateLimit")
struct RateLimitTests {
    static let second: UInt64 = 1_000_000_000
    static let rates: [UInt64] = [1, 7, 4096, 1_000_003, 200_000_000, 1_000_000_000, 1 << 40]

    /// A bucket as anybody would draw it: writes pour in, time lets it run out at the rate, and down
    /// to what is below empty there may be written. In bytes by nanoseconds, so that nothing is rounded.
    struct Bucket {
        var rate: Int128
        var level: Int128 = 0
        var urgent: Int128 = 0
        var now: Int128

        mutating func pass(to instant: UInt64) {
            let arrears = Int128(RateLimit.arrearsNanosecondsMax) * rate
            level = max(level - (Int128(instant) - now) * rate, -arrears)
            now = Int128(instant)
        }

        mutating func noteUrgent(_ bytes: Int) {
            let most = rate * Int128(RateLimit.urgentNanosecondsMax) / Int128(second)
            urgent = min(urgent + Int128(bytes), most)
        }

        mutating func send(_ bytes: Int) {
            let paid = min(urgent, Int128(bytes) * 7)
            urgent -= paid
            level += (Int128(bytes) + paid) * Int128(second)
        }

        var delay: UInt64 { level > 0 ? UInt64((level + rate - 1) / rate) : 0 }
    }

    @Test("does what a leaking bucket does", arguments: rates, 0..<20 as Range<UInt64>)
    func againstBucket(rate: UInt64, seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var now = random.next() >> 20
        var limit = RateLimit(bytesPerSecond: rate, at: now)
        var bucket = Bucket(rate: Int128(rate), now: Int128(now))
        var differences = 0
        for _ in 0..<1_000 {
            // From nanoseconds to stalls of seconds, and mostly what the sender was told.
            now += limit.delay(at: now) * UInt64(random.below(3)) / 2
            now += random.next() >> UInt64(34 + random.below(30))
            bucket.pass(to: now)
            if random.below(3) == 0 {
                let bytes = random.below(1 << random.below(24))
                limit.noteUrgent(bytes)
                bucket.noteUrgent(bytes)
            } else {
                let bytes = random.below(1 << random.below(20))
                bucket.send(bytes)
                if limit.delay(afterSending: bytes, at: now) != bucket.delay { differences += 1 }
            }
            if limit.delay(at: now) != bucket.delay { differences += 1 }
        }
        #expect(differences == 0)
    }

    /// A sender that obeys and is woken late, for five seconds.
    struct Run {
        var bytes = 0
        var urgentBytes = 0
        /// The most that was sent in a window of 10 ms beyond the rate, with its first write.
        var burstMax = 0

        init(
            rate: UInt64, write: Int, lateMax: UInt64, urgentPerWrite: Int = 0, seed: UInt64 = 1,
            linkRate: UInt64 = .max
        ) {
            var random = SeededRandom(seed: seed)
            var now: UInt64 = 1 << 50
            let start = now
            var limit = RateLimit(bytesPerSecond: rate, at: now)
            var window: [(at: UInt64, bytes: Int)] = []
            while now < start + 5 * second {
                bytes += write
                window.append((now, write))
                now += UInt64(write) * second / linkRate
                urgentBytes += urgentPerWrite
                limit.noteUrgent(urgentPerWrite)
                let delay = limit.delay(afterSending: write, at: now)
                now += delay
                if delay > 0, lateMax > 0 { now += random.next() % lateMax }
                while let first = window.first, now - first.at > 10_000_000 {
                    window.removeFirst()
                }
                let sent = window.reduce(0) { $0 + $1.bytes }
                burstMax = max(burstMax, sent - Int(rate / 100))
            }
        }
    }

    @Test(
        "five seconds carry what was asked for, however late the sender wakes",
        arguments: [1_000_000, 200_000_000, 1_000_000_000] as [UInt64],
        [0, 100_000, 2_000_000, 4_000_000] as [UInt64])
    func error(rate: UInt64, lateMax: UInt64) {
        let write = min(128 << 10, Int(rate / 200))
        let run = Run(rate: rate, write: write, lateMax: lateMax)
        let asked = Double(rate) * 5
        let error = abs(Double(run.bytes) - asked) / asked
        #expect(error <= 0.002, "\(error)")
    }

    @Test(
        "a burst is arrears and the one write that began before it",
        arguments: [1_000_003, 200_000_000, 1_000_000_000] as [UInt64])
    func burst(rate: UInt64) {
        let limit = RateLimit(bytesPerSecond: rate, at: 0)
        #expect(limit.burstBytes == Int(rate / 200))
        let write = min(128 << 10, limit.burstBytes)
        for seed: UInt64 in 1...3 {
            let run = Run(rate: rate, write: write, lateMax: 60_000_000, seed: seed)
            #expect(run.burstMax <= Int(rate / 200) + write)
        }
    }

    @Test("a link that is slower than the limit is not slowed down further")
    func slowLink() {
        let run = Run(rate: 200_000_000, write: 100_000, lateMax: 0, linkRate: 100_000_000)
        #expect(run.bytes == 500_000_000)
    }

    @Test("urgent pages and the background share the limit while they can", arguments: 0...7)
    func urgentShare(urgentPerWrite: Int) {
        let write = 100_000
        let run = Run(
            rate: 200_000_000, write: write, lateMax: 100_000,
            urgentPerWrite: urgentPerWrite * write)
        let asked = 1_000_000_000
        #expect(abs(run.bytes + run.urgentBytes - asked) <= asked / 200)
    }

    @Test("urgent pages leave the background an eighth", arguments: [8, 20, 10_000])
    func backgroundShare(urgentPerWrite: Int) {
        let write = 100_000
        let run = Run(
            rate: 200_000_000, write: write, lateMax: 100_000,
            urgentPerWrite: urgentPerWrite * write)
        let share = 1_000_000_000 / Int(RateLimit.backgroundShare)
        #expect(abs(run.bytes - share) <= share / 100)
    }

    @Test("a storm of urgent pages is forgotten after 100 ms at the full rate")
    func storm() {
        var limit = RateLimit(bytesPerSecond: 1_000_000, at: 0)
        for _ in 0..<1_000 { limit.noteUrgent(1_000_000) }
        // 100,000 bytes are remembered; a write pays for seven times itself.
        #expect(limit.delay(afterSending: 10_000, at: 0) == 80_000_000)
        #expect(limit.delay(afterSending: 10_000, at: 80_000_000) == 40_000_000)
        #expect(limit.delay(afterSending: 10_000, at: 120_000_000) == 10_000_000)
    }

    @Test("without a limit nothing waits, and nothing is held against a later one")
    func unlimited() {
        var limit = RateLimit(bytesPerSecond: nil, at: 5)
        #expect(limit.delay(afterSending: .max, at: 5) == 0)
        limit.noteUrgent(.max)
        #expect(limit.burstBytes == .max)
        limit.setLimit(1_000, at: 9)
        #expect(limit.delay(at: 9) == 0)
        #expect(limit.delay(afterSending: 1, at: 9) == 1_000_000)
        limit.setLimit(nil, at: 10)
        #expect(limit.delay(at: 10) == 0)
    }

    @Test("what is owed is waited for at the new limit", arguments: rates, rates)
    func change(old: UInt64, new: UInt64) {
        for bytes in [1, 4096, 131_072] {
            var limit = RateLimit(bytesPerSecond: old, at: 1_000)
            _ = limit.delay(afterSending: bytes, at: 1_000)
            limit.setLimit(new, at: 1_000)
            let exact = (UInt64(bytes) * Self.second + new - 1) / new
            #expect(limit.delay(at: 1_000) == exact)
            // There and back nothing is lost.
            limit.setLimit(old, at: 1_000)
            limit.setLimit(new, at: 1_000)
            #expect(limit.delay(at: 1_000) == exact)
        }
    }

    @Test("a changed limit forgets what is more than 100 ms of it, and keeps what was not used")
    func changeOfArrears() {
        var limit = RateLimit(bytesPerSecond: 1_000_000_000, at: 0)
        limit.noteUrgent(100_000_000)
        limit.setLimit(1_000_000, at: 0)
        #expect(limit.delay(afterSending: 100_000, at: 0) == 200_000_000)
        limit = RateLimit(bytesPerSecond: 1_000_000_000, at: 0)
        limit.setLimit(1_000_000, at: 3_000_000)
        #expect(limit.delay(afterSending: 3_000, at: 3_000_000) == 0)
        #expect(limit.delay(afterSending: 1, at: 3_000_000) == 1_000)
    }

    @Test("the extremes of rate, time and size neither trap nor wait for less than they must")
    func extremes() {
        let ends: [UInt64] = [0, 1, 4_294_967_296 * Self.second, .max - 1, .max]
        let rates: [UInt64] = [1, 2, Self.second, .max - 1, .max]
        for (rate, other) in rates.flatMap({ rate in rates.map { (rate, $0) } }) {
            for (from, to) in ends.flatMap({ from in ends.map { (from, $0) } }) {
                var limit = RateLimit(bytesPerSecond: rate, at: from)
                for bytes in [0, 1, Int.max] {
                    limit.noteUrgent(bytes)
                    #expect(limit.delay(afterSending: bytes, at: to) == limit.delay(at: to))
                    limit.setLimit(other, at: to)
                    limit.setLimit(rate, at: from)
                }
                #expect(limit.burstBytes >= 1)
            }
        }
        var slow = RateLimit(bytesPerSecond: 1, at: 0)
        #expect(slow.delay(afterSending: .max, at: 0) == .max)
        #expect(slow.delay(afterSending: .max, at: .max) == 0)
        var quick = RateLimit(bytesPerSecond: .max, at: 0)
        // 2^63 - 1 bytes at 2^64 - 1 a second: half a second, rounded up.
        #expect(quick.delay(afterSending: .max, at: 0) == 500_000_000)
    }
}
