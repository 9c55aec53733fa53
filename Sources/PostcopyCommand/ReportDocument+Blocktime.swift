internal import Postcopy

extension ReportDocument {
    /// What the account of waits says beside its totals.
    mutating func add(_ blocktime: BlocktimeReport) {
        let counts = blocktime.latencyCounts
        var dist = [UInt64](repeating: 0, count: LatencyBuckets.bucketCount)
        for (nanoseconds, count) in counts {
            dist[LatencyBuckets.index(ofNanoseconds: nanoseconds)] += count
        }
        postcopyLatencyDist = dist
        postcopyLatencyHistogram = HistogramFigures(counts)
    }

    /// Of the destination of the same host.
    mutating func takeDistribution(of other: ReportDocument) {
        postcopyLatencyDist = other.postcopyLatencyDist
        postcopyVcpuLatencyNs = other.postcopyVcpuLatencyNs
        postcopyLatencyHistogram = other.postcopyLatencyHistogram
        postcopyOtherLatencyNs = other.postcopyOtherLatencyNs
        flight = other.flight
    }
}

extension HistogramFigures {
    init(_ counts: [(nanoseconds: UInt64, count: UInt64)]) {
        self.init(valuesNs: counts.map(\.nanoseconds), counts: counts.map(\.count))
    }

    /// The value that this share of all waits does not exceed; 0 without waits.
    func percentile(_ percent: Double) -> UInt64 {
        let rank = max(1, (percent / 100 * Double(counts.reduce(0, +))).rounded(.up))
        var seen: UInt64 = 0
        for (value, count) in zip(valuesNs, counts) {
            seen += count
            if Double(seen) >= rank { return value }
        }
        return valuesNs.last ?? 0
    }

    /// Both together.
    func adding(_ other: HistogramFigures) -> HistogramFigures {
        var sums: [UInt64: UInt64] = [:]
        for figures in [self, other] {
            for (value, count) in zip(figures.valuesNs, figures.counts) {
                sums[value, default: 0] += count
            }
        }
        return HistogramFigures(sums.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }
}
