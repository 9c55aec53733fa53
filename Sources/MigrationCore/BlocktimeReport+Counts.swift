internal import Histogram

extension BlocktimeReport {
    /// Every length of a wait and how many were as long, the shortest first; true to 0.1 %.
    public var latencyCounts: [(nanoseconds: UInt64, count: UInt64)] {
        histogram.recordedValues().map { ($0.value, $0.count) }
    }
}
