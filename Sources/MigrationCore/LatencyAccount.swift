/// The distribution of durations that somebody else measures. Allocates only when it is made; one owner.
public struct LatencyAccount: ~Copyable, Sendable {
    private var distribution = WaitDistribution(.perMille)

    /// One that has counted nothing.
    public init() {}

    /// Counts one; above an hour as an hour.
    public mutating func record(_ nanoseconds: UInt64) { distribution.record(nanoseconds) }

    /// What was counted so far.
    public var summary: LatencySummary { distribution.latency }
}
