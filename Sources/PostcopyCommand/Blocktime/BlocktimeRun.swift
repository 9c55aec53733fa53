internal import Postcopy

/// How long one thread, or all of them, waited for missing pages.
struct PartyFigures: Codable, Equatable {
    var name: String
    var totalNs: UInt64
    /// Left out where the file says no more than the total.
    var waits: UInt64?
    var meanNs: UInt64?
    var p50Ns: UInt64?
    var p90Ns: UInt64?
    var p99Ns: UInt64?
    var p999Ns: UInt64?
    var maxNs: UInt64?
}

/// What one run's file says of how long its guest was blocked.
struct BlocktimeRun: Codable, Equatable {
    var name: String
    var vcpus: [PartyFigures]
    /// Threads that are no vCPU, by name.
    var others: [PartyFigures]
    var all: PartyFigures
    /// How long all vCPUs were blocked at once.
    var overlappedNs: UInt64?
    var histogram: HistogramFigures?
    /// Waits by QEMU's powers of two of microseconds.
    var dist: [UInt64]?
    /// The parts sum up to `attributedNs`, the total of the waits that were recorded.
    var attributedNs: UInt64?
    var attribution: [CauseFigures]
    var worst: [WaitFigures]
    var timing: TimingFigures?
    var clock: ClockFigures?
    /// Waits of which there is no record any more.
    var lostWaits: UInt64?
}

extension PartyFigures {
    init(_ name: String, _ waits: WaitLengths) {
        self.init(
            name: name, totalNs: waits.nanoseconds, waits: waits.count,
            meanNs: waits.meanNanoseconds, p50Ns: waits.percentile(50),
            p90Ns: waits.percentile(90), p99Ns: waits.percentile(99),
            p999Ns: waits.percentile(99.9), maxNs: waits.maxNanoseconds)
    }

    init(_ name: String, totalNs: UInt64, _ latency: LatencyFigures?) {
        self.init(
            name: name, totalNs: totalNs, waits: latency?.count, meanNs: latency?.mean,
            p50Ns: latency?.p50, p90Ns: latency?.p90, p99Ns: latency?.p99, p999Ns: latency?.p999,
            maxNs: latency?.max)
    }

    /// Both together; percentiles of a sum are not to be had from those of its parts.
    func adding(_ other: PartyFigures) -> PartyFigures {
        let total = totalNs.adding(other.totalNs)
        let count = waits.flatMap { waits in other.waits.map { waits.adding($0) } }
        return PartyFigures(
            name: name, totalNs: total, waits: count, meanNs: count.map { total / max(1, $0) },
            maxNs: maxNs.flatMap { longest in other.maxNs.map { max(longest, $0) } })
    }
}

extension BlocktimeRun {
    /// A run of which every wait is known.
    /// - Parameter log: with the destination's side.
    init(_ log: FaultLog, name: String) {
        let analysis = FaultAnalysis(log)
        let flight = FlightFigures(analysis, of: log)
        self.init(
            name: name, vcpus: analysis.vcpus.map { PartyFigures($0.name, $0.waits) },
            others: analysis.others.map { PartyFigures($0.name, $0.waits) },
            all: PartyFigures("all", analysis.waits),
            overlappedNs: log.destination?.overlappedNanoseconds,
            histogram: HistogramFigures(analysis.waits.histogram),
            dist: analysis.waits.buckets.counts, attributedNs: flight.totalNs,
            attribution: flight.attribution, worst: flight.worst, timing: flight.timing,
            clock: flight.clock, lostWaits: flight.lostWaits)
    }

    /// - Parameter path: what refusals call the file.
    /// - Throws: `Refusal` when nobody could wait in it.
    init(_ report: ReportDocument, name: String, path: String) throws(Refusal) {
        guard let totals = report.postcopyVcpuBlocktimeNs, let latency = report.postcopyLatencyNs,
            latency.count > 0 || report.switchover?.ending != "precopy"
        else {
            throw .environment(
                "\(path) has no blocktime: \(Self.absence(report)); give the report of a postcopy, "
                    + "from 'run' or 'receive'")
        }
        guard report.postcopyLatencyHistogram?.isInOrder != false else {
            throw .environment(
                "\(path) has a 'postcopy-latency-histogram' that is none: its values do not ascend, "
                    + "or not each has a count; take the report as it was written")
        }
        let vcpus = totals.enumerated().map { index, total in
            let known = report.postcopyVcpuLatencyNs ?? []
            return PartyFigures(
                "vcpu\(index)", totalNs: total, known.indices.contains(index) ? known[index] : nil)
        }
        let others = (report.postcopyOtherLatencyNs ?? []).map {
            PartyFigures($0.name, totalNs: $0.totalNs, $0.latency)
        }
        let sum = (vcpus + others).reduce(UInt64(0)) { $0.adding($1.totalNs) }
        // A mean is a rounded one, and a record may be lost: the larger figure is nearer the truth.
        let (product, isOver) = latency.mean.multipliedReportingOverflow(by: latency.count)
        let total = max(sum, isOver ? .max : product)
        self.init(
            name: name, vcpus: vcpus, others: others,
            all: PartyFigures("all", totalNs: total, latency),
            overlappedNs: report.postcopyBlocktimeNs, histogram: report.postcopyLatencyHistogram,
            dist: report.postcopyLatencyDist.map { Array($0.prefix(LatencyBuckets.bucketCount)) },
            attributedNs: report.flight?.totalNs, attribution: report.flight?.attribution ?? [],
            worst: report.flight?.worst ?? [], timing: report.flight?.timing,
            clock: report.flight?.clock,
            lostWaits: report.flight?.lostWaits)
    }

    private static func absence(_ report: ReportDocument) -> String {
        if report.switchover?.ending == "precopy" { return "it was precopy only" }
        if report.command == SendCommand.name { return "it is the source's, where nobody waits" }
        guard report.destination != nil else { return "its destination left no word of its waits" }
        return "its guest never ran at the destination"
    }
}

extension BlocktimeRun {
    /// All runs as if they were one.
    /// - Precondition: there is one.
    static func merged(_ runs: [BlocktimeRun]) -> BlocktimeRun {
        var result = runs[0]
        for run in runs.dropFirst() { result.add(run) }
        result.name = "merged"
        if let histogram = result.histogram {
            result.all.p50Ns = min(histogram.percentile(50), result.all.maxNs ?? .max)
            result.all.p90Ns = min(histogram.percentile(90), result.all.maxNs ?? .max)
            result.all.p99Ns = min(histogram.percentile(99), result.all.maxNs ?? .max)
            result.all.p999Ns = min(histogram.percentile(99.9), result.all.maxNs ?? .max)
        }
        result.clock = nil
        return result
    }

    private mutating func add(_ other: BlocktimeRun) {
        vcpus = Self.sum(vcpus, other.vcpus)
        others = Self.sum(others, other.others)
        all = all.adding(other.all)
        overlappedNs = Self.both(overlappedNs, other.overlappedNs) { $0.adding($1) }
        histogram = Self.both(histogram, other.histogram) { $0.adding($1) }
        dist = Self.both(dist, other.dist, Self.sum)
        addCauses(of: other)
        worst = Array((worst + other.worst).sorted { $0.ns > $1.ns }.prefix(FaultAnalysis.worstMax))
        timing = Self.both(timing, other.timing) { $0.adding($1) }
        lostWaits = Self.both(lostWaits, other.lostWaits) { $0.adding($1) }
    }

    /// Shares of a total of which one run does not say the parts would be none of the whole.
    private mutating func addCauses(of other: BlocktimeRun) {
        attributedNs = Self.both(attributedNs, other.attributedNs) { $0.adding($1) }
        guard attributedNs != nil else {
            attribution = []
            return
        }
        for cause in other.attribution {
            if let place = attribution.firstIndex(where: { $0.cause == cause.cause }) {
                let known = attribution[place]
                attribution[place].ns = known.ns.adding(cause.ns)
                attribution[place].waits = Self.both(known.waits, cause.waits) { $0.adding($1) }
            } else {
                attribution.append(cause)
            }
        }
        attribution.sort { $0.ns > $1.ns }
    }

    /// Bucket by bucket; what one has more stays as it is.
    private static func sum(_ counts: [UInt64], _ others: [UInt64]) -> [UInt64] {
        var (sums, fewer) = counts.count < others.count ? (others, counts) : (counts, others)
        for (place, count) in fewer.enumerated() { sums[place] = sums[place].adding(count) }
        return sums
    }

    private static func both<Value>(
        _ one: Value?, _ other: Value?, _ join: (Value, Value) -> Value
    ) -> Value? {
        one.flatMap { one in other.map { join(one, $0) } }
    }

    private static func sum(_ parties: [PartyFigures], _ others: [PartyFigures]) -> [PartyFigures] {
        var result = parties
        for other in others {
            if let place = result.firstIndex(where: { $0.name == other.name }) {
                result[place] = result[place].adding(other)
            } else {
                result.append(other)
            }
        }
        return result
    }
}

extension TimingFigures {
    /// Of both runs' waits.
    fileprivate func adding(_ other: TimingFigures) -> TimingFigures {
        let timed = kernelTimed.adding(other.kernelTimed)
        let sum =
            Double(readDelayMeanNs) * Double(kernelTimed)
            + Double(other.readDelayMeanNs) * Double(other.kernelTimed)
        return TimingFigures(
            kernelTimed: timed, handlerTimed: handlerTimed.adding(other.handlerTimed),
            readDelayMeanNs: UInt64(exactly: (sum / Double(max(1, timed))).rounded()) ?? 0,
            readDelayMaxNs: max(readDelayMaxNs, other.readDelayMaxNs),
            boundNs: boundNs.adding(other.boundNs),
            // The word of the one that knows less.
            boundedBy: [self, other].map(\.boundedBy).max { Self.rank($0) < Self.rank($1) }
                ?? boundedBy)
    }

    private static func rank(_ word: String) -> Int {
        ["kernel", "probe", "read-delay"].firstIndex(of: word) ?? .max
    }
}
