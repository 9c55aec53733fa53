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

/// The distribution of waits in a few numbers, in nanoseconds. Percentiles are as exact as the
/// histogram that they come from.
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

/// Durations, added up and by their length.
///
/// It takes its memory when it is made, which a copy shares until it counts: 264 KiB where percentiles
/// are true to 0.1 %, 36 KiB where they are to 1 %.
public struct WaitDistribution: Sendable {
    /// One hour, longer than any wait worth telling apart; with it the histogram never grows.
    static let nanosecondsMax: UInt64 = 3_600_000_000_000

    /// The sum, the number and the longest; exact.
    public private(set) var totals = WaitTotals()
    /// Each, in nanoseconds; one above an hour counts as an hour.
    public private(set) var histogram: Histogram<UInt64>

    /// To what percentiles are true.
    enum Precision { case perMille, percent }

    /// Of nothing yet.
    init(_ precision: Precision) {
        histogram = Histogram(
            lowestDiscernibleValue: 1, highestTrackableValue: Self.nanosecondsMax,
            numberOfSignificantValueDigits: precision == .perMille ? .three : .two)
    }

    /// Counts one.
    mutating func record(_ nanoseconds: UInt64) {
        totals.add(waitNanoseconds: nanoseconds)
        histogram.record(min(nanoseconds, Self.nanosecondsMax))
    }

    /// Counts what another one as precise has counted.
    mutating func add(_ other: WaitDistribution) {
        totals.add(other.totals)
        histogram.add(other.histogram)
    }

    /// In a few numbers.
    public var latency: LatencySummary {
        // The histogram answers the upper end of a bucket, which may lie above the longest wait.
        func percentile(_ percent: Double) -> UInt64 {
            min(histogram.valueAtPercentile(percent), totals.waitNanosecondsMax)
        }
        return LatencySummary(
            count: totals.waitCount,
            meanNanoseconds: totals.waitCount == 0 ? 0 : totals.nanoseconds / totals.waitCount,
            p50Nanoseconds: percentile(50), p90Nanoseconds: percentile(90),
            p99Nanoseconds: percentile(99), p999Nanoseconds: percentile(99.9),
            maxNanoseconds: totals.waitNanosecondsMax)
    }
}
