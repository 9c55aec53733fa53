internal import Postcopy

extension ReportDocument {
    /// What the account of waits says beside its totals.
    mutating func add(_ blocktime: BlocktimeReport) {
        postcopyLatencyDist = blocktime.buckets.counts
        postcopyLatencyHistogram = HistogramFigures(blocktime.latencyCounts)
        postcopyVcpuLatencyNs = blocktime.vcpuWaits.map { LatencyFigures($0.latency) }
    }

    /// Says of the waits what both sides' records say together.
    mutating func explain(by log: FaultLog) {
        guard var figures = FlightFigures(log) else { return }
        figures.timing.take(flight?.timing.probe)
        flight = figures
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

extension DestinationReport {
    /// Of threads that are no vCPU, by name; those of one name together in turn.
    var otherLatencies: [NamedLatencyFigures]? {
        guard let others = blocktime?.otherThreads else { return nil }
        let names = faultLog?.destination?.threadNames ?? [:]
        var figures = others.own.map {
            NamedLatencyFigures(names[$0.thread] ?? "thread \($0.thread)", $0.waits)
        }
        if others.rest.totals.waitCount > 0 {
            figures.append(NamedLatencyFigures("other threads", others.rest))
        }
        return figures.isEmpty ? nil : figures
    }
}

extension NamedLatencyFigures {
    fileprivate init(_ name: String, _ waits: WaitDistribution) {
        self.init(
            name: name, totalNs: waits.totals.nanoseconds, latency: LatencyFigures(waits.latency))
    }
}

extension HistogramFigures {
    /// Whether each value has its count, and they ascend: a report may say anything.
    var isInOrder: Bool {
        valuesNs.count == counts.count && zip(valuesNs, valuesNs.dropFirst()).allSatisfy(<)
    }

    init(_ counts: [(nanoseconds: UInt64, count: UInt64)]) {
        self.init(valuesNs: counts.map(\.nanoseconds), counts: counts.map(\.count))
    }

    /// The value that this share of all waits does not exceed; 0 without waits.
    func percentile(_ percent: Double) -> UInt64 {
        let rank = max(
            1, (percent / 100 * Double(counts.reduce(UInt64(0)) { $0.adding($1) })).rounded(.up))
        var seen: UInt64 = 0
        for (value, count) in zip(valuesNs, counts) {
            seen = seen.adding(count)
            if Double(seen) >= rank { return value }
        }
        return valuesNs.last ?? 0
    }

    /// Both together.
    func adding(_ other: HistogramFigures) -> HistogramFigures {
        var sums: [UInt64: UInt64] = [:]
        for figures in [self, other] {
            for (value, count) in zip(figures.valuesNs, figures.counts) {
                sums[value] = (sums[value] ?? 0).adding(count)
            }
        }
        return HistogramFigures(sums.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }
}
