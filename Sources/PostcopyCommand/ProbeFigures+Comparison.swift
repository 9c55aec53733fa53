internal import Postcopy
internal import TestWorkload

extension ProbeFigures {
    /// `nil` where nothing was recorded, or the workload saw more long accesses than it keeps.
    init?(_ report: DestinationReport, _ stalls: [StallProbe]) {
        guard let log = report.faultLog?.destination, !stalls.isEmpty,
            log.lostWaits == 0, log.vcpuThreads.count == stalls.count,
            stalls.allSatisfy({ $0.count == $0.accesses.count })
        else { return nil }
        let waits = Dictionary(grouping: log.waits, by: \.thread)
        var comparison = ProbeComparison()
        for (thread, stall) in zip(log.vcpuThreads, stalls) {
            comparison.add(
                waits: (waits[thread] ?? []).sorted { $0.began < $1.began },
                // Behind the end no page is missing: the processor was taken away.
                accesses: stall.accesses.filter { $0.start < report.endedAtNanoseconds },
                isComplete: true)
        }
        self.init(
            matchedWaits: comparison.matchedWaits, unmatchedWaits: comparison.unmatchedWaits,
            earlyNs: comparison.earlyNanoseconds, earlyMaxNs: comparison.earlyNanosecondsMax,
            lateNs: comparison.lateNanoseconds, lateMaxNs: comparison.lateNanosecondsMax,
            overNs: comparison.overNanoseconds, otherAccesses: comparison.otherAccesses,
            otherNs: comparison.otherNanoseconds)
    }

    /// How far the total of the vCPUs' waits may lie below the truth: what their accesses took before
    /// the waits in them, and those without a wait, of which some may have been one.
    var boundNs: UInt64 { earlyNs + otherNs }
}

extension TimingFigures {
    /// Adds what the workload saw, which bounds what was timed when it was read.
    mutating func take(_ probe: ProbeFigures?) {
        guard let probe else { return }
        self.probe = probe
        boundNs = probe.boundNs
        boundedBy = "probe"
    }
}
