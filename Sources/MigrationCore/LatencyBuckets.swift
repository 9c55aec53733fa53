/// Waits counted by powers of two of microseconds, as QEMU shows them.
///
/// Bucket 0 counts waits below 2 us, bucket n those of `[2^n, 2^(n+1))` us, and the last one all above.
/// Source: `blocktime_latency_account` of QEMU 10.1 (`migration/postcopy-ram.c`).
public struct LatencyBuckets: Hashable, Sendable {
    /// QEMU's number of them.
    public static let bucketCount = 24

    /// How many waits each bucket has.
    public private(set) var counts = [UInt64](repeating: 0, count: bucketCount)

    /// No waits yet.
    public init() {}

    /// These counts.
    /// - Precondition: there are `bucketCount`.
    public init(counts: [UInt64]) {
        precondition(counts.count == Self.bucketCount)
        self.counts = counts
    }

    /// The bucket of a wait.
    public static func index(ofNanoseconds nanoseconds: UInt64) -> Int {
        let microseconds = nanoseconds / 1_000
        guard microseconds > 0 else { return 0 }
        return min(bucketCount - 1, 63 - microseconds.leadingZeroBitCount)
    }

    /// Counts one wait.
    public mutating func record(nanoseconds: UInt64) {
        counts[Self.index(ofNanoseconds: nanoseconds)] += 1
    }

    /// Counts what another one has counted.
    public mutating func add(_ other: LatencyBuckets) {
        for index in counts.indices { counts[index] += other.counts[index] }
    }

    /// How many waits there are in all.
    public var total: UInt64 { counts.reduce(0, +) }
}
