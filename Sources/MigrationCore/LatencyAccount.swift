internal import Histogram

/// The distribution of durations that somebody else measures. Allocates only when it is made; one owner.
public struct LatencyAccount: ~Copyable, Sendable {
    private var totals = WaitTotals()
    private var histogram = Histogram<UInt64>(
        lowestDiscernibleValue: 1, highestTrackableValue: Blocktime.latencyNanosecondsMax,
        numberOfSignificantValueDigits: .three)

    /// One that has counted nothing.
    public init() {}

    /// Counts one; above an hour as an hour.
    public mutating func record(_ nanoseconds: UInt64) {
        totals.add(waitNanoseconds: nanoseconds)
        histogram.record(min(nanoseconds, Blocktime.latencyNanosecondsMax))
    }

    /// What was counted so far.
    public var summary: LatencySummary { LatencySummary(of: histogram, totals) }
}
