public import Histogram

/// How long one party waited for missing pages.
public struct WaitTotals: Hashable, Sendable {
    /// The sum of all waits.
    public internal(set) var nanoseconds: UInt64 = 0
    /// How many there were.
    public internal(set) var waitCount: UInt64 = 0
    /// The longest.
    public internal(set) var waitNanosecondsMax: UInt64 = 0

    /// No waits yet.
    public init() {}

    mutating func add(waitNanoseconds: UInt64) {
        nanoseconds += waitNanoseconds
        waitCount += 1
        waitNanosecondsMax = max(waitNanosecondsMax, waitNanoseconds)
    }

    mutating func add(_ other: WaitTotals) {
        nanoseconds += other.nanoseconds
        waitCount += other.waitCount
        waitNanosecondsMax = max(waitNanosecondsMax, other.waitNanosecondsMax)
    }
}

/// The distribution of waits in a few numbers, in nanoseconds. Percentiles are true to 0.1 %.
public struct LatencySummary: Hashable, Sendable {
    /// How many waits it sums up.
    public let count: UInt64
    /// Their mean.
    public let meanNanoseconds: UInt64
    /// Half of them were no longer.
    public let p50Nanoseconds: UInt64
    /// 90 % were no longer.
    public let p90Nanoseconds: UInt64
    /// 99 % were no longer.
    public let p99Nanoseconds: UInt64
    /// 99.9 % were no longer.
    public let p999Nanoseconds: UInt64
    /// Exact.
    public let maxNanoseconds: UInt64
}

/// What `Blocktime` has counted: every wait that has ended.
///
/// Source: `fill_destination_postcopy_migration_info` of QEMU (`migration/postcopy-ram.c`), whose
/// numbers are milliseconds.
public struct BlocktimeReport: Sendable {
    /// By vCPU, in the order in which their threads were given.
    public let vcpus: [WaitTotals]
    /// How long all vCPUs waited at once.
    public let overlappedNanoseconds: UInt64
    /// Threads that are no vCPU, together.
    public let others: WaitTotals
    /// Faults of threads that had no place in the table or no known thread id: how often, not how
    /// long.
    public let untrackedCount: UInt64
    /// Every wait of every thread, in nanoseconds; waits above an hour count as an hour.
    public let histogram: Histogram<UInt64>

    /// How long each vCPU waited.
    public var vcpuNanoseconds: [UInt64] { vcpus.map(\.nanoseconds) }

    /// The waits of all threads in a few numbers.
    public var latency: LatencySummary {
        var all = others
        for vcpu in vcpus { all.add(vcpu) }
        return LatencySummary(of: histogram, all)
    }
}

extension LatencySummary {
    init(of histogram: Histogram<UInt64>, _ all: WaitTotals) {
        // The histogram answers the upper end of a bucket, which may lie above the longest wait.
        func percentile(_ percent: Double) -> UInt64 {
            min(histogram.valueAtPercentile(percent), all.waitNanosecondsMax)
        }
        self.init(
            count: all.waitCount,
            meanNanoseconds: all.waitCount == 0 ? 0 : all.nanoseconds / all.waitCount,
            p50Nanoseconds: percentile(50), p90Nanoseconds: percentile(90),
            p99Nanoseconds: percentile(99), p999Nanoseconds: percentile(99.9),
            maxNanoseconds: all.waitNanosecondsMax)
    }
}
