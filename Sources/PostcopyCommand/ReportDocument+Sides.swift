internal import Glibc
internal import Postcopy
internal import TestWorkload

extension ReportDocument {
    /// What the source alone knows.
    init(
        command: String, source report: SourceReport, ending: WorkloadEnding? = nil,
        memory: MemoryFigures, workload: WorkloadFigures? = nil, channels: ChannelFigures,
        machine: MachineFigures
    ) {
        let progress = report.progress
        let start = report.startedAtNanoseconds
        let phases = PhaseFigures.list(
            report.changes, start: start, end: report.endedAtNanoseconds)
        let ram = RAMFigures(
            total: memory.totalBytes, pageSize: memory.pageBytes, normal: progress.normalPages,
            duplicate: progress.zeroPages, transferred: progress.sentBytes.total,
            remaining: UInt64(progress.remainingPages) * PageSize.target.bytes,
            precopyBytes: progress.sentBytes.precopy,
            downtimeBytes: progress.sentBytes.downtime,
            postcopyBytes: progress.sentBytes.postcopy, postcopyRequests: progress.requests,
            releasedBytes: progress.releasedBytes == 0 ? nil : progress.releasedBytes)
        // What the link says when it is closed on request is no reason.
        let problem =
            report.status == .cancelled
            ? "stopped on request before the guest moved" : report.problem
        let side = SideFigures(
            pid: getpid(), status: report.status.rawValue, errorDesc: problem,
            guestRunsHere: report.guestRunsHere, startedAtNs: start,
            endedAtNs: report.endedAtNanoseconds,
            guestStoppedAtNs: report.guestStoppedAtNanoseconds, phases: phases,
            requests: progress.requests, peakResidentBytes: Machine.peakResidentBytes,
            hugeBytesAtStart: report.hugeBytesAtStart,
            breaks: BreakFigures.list(report.breaks),
            breakCount: BreakFigures.count(progress.recovery),
            isAbandoned: report.isAbandoned ? true : nil)
        self.init(
            command: command, status: report.status.rawValue, errorDesc: problem,
            totalTimeNs: report.endedAtNanoseconds - min(start, report.endedAtNanoseconds),
            downtimeNs: report.downtimeNanoseconds, ram: ram,
            verify: ending.flatMap { VerifyFigures($0, side: "source") }, phases: phases,
            channels: channels, workload: workload, workloadStalls: ending?.stallFigures,
            machine: machine, source: side)
        add(report)
    }

    /// What the destination alone knows.
    init(
        command: String, destination report: DestinationReport, ending: WorkloadEnding? = nil,
        memory: MemoryFigures, workload: WorkloadFigures? = nil, channels: ChannelFigures,
        machine: MachineFigures
    ) {
        let progress = report.progress
        let end = report.endedAtNanoseconds
        let start = report.changes.first?.atNanoseconds ?? end
        let phases = PhaseFigures.list(report.changes, start: start, end: end)
        // A guest that stayed at the source misses nothing here, and nobody waited.
        let blocktime = report.guestRunsHere ? report.blocktime : nil
        let missing = report.guestRunsHere ? report.missing : []
        let ram = RAMFigures(
            total: memory.totalBytes, pageSize: memory.pageBytes,
            remaining: report.missing.reduce(0) { $0 + $1.bytes },
            postcopyRequests: progress.requests, urgentPages: progress.urgentPages,
            backgroundPages: progress.backgroundPages)
        let side = SideFigures(
            pid: getpid(), status: report.status.rawValue, errorDesc: report.problem,
            guestRunsHere: report.guestRunsHere, startedAtNs: start, endedAtNs: end,
            guestRunningAtNs: report.guestRunningAtNanoseconds, phases: phases,
            faults: progress.faults, requests: progress.requests,
            zeroPages: progress.zeroPages, receivedBytes: progress.receivedBytes,
            faultOrigin: report.faultOrigin.isEmpty ? nil : report.faultOrigin,
            peakResidentBytes: Machine.peakResidentBytes,
            hugeBytesAtEnd: report.memory.hugeBytesAtEnd,
            healedRanges: report.memory.healNanoseconds.map { _ in report.memory.healedRanges },
            healNs: report.memory.healNanoseconds, lockProblem: report.memory.lockProblem,
            breaks: BreakFigures.list(report.breaks),
            breakCount: BreakFigures.count(progress.recovery),
            isAbandoned: report.isAbandoned ? true : nil)
        self.init(
            command: command, status: report.status.rawValue, errorDesc: report.problem,
            totalTimeNs: end - start, ram: ram,
            postcopyBlocktimeNs: blocktime?.overlappedNanoseconds,
            postcopyVcpuBlocktimeNs: blocktime?.vcpuNanoseconds,
            postcopyLatencyNs: blocktime.map { LatencyFigures($0.latency) },
            verify: ending.flatMap { VerifyFigures($0, side: "destination") },
            missing: MissingFigures.list(missing),
            vcpusInLostMemory: report.isAbandoned ? ending?.vcpusInLostMemory : nil, phases: phases,
            channels: channels,
            workload: workload, workloadStalls: ending?.stallFigures, machine: machine,
            destination: side)
        if let blocktime { add(blocktime) }
        guard report.guestRunsHere else { return }
        flight = report.faultLog.flatMap { FlightFigures($0) }
        flight?.timing.take(ending.flatMap { ProbeFigures(report, $0.stalls) })
        postcopyOtherLatencyNs = report.otherLatencies
    }

    /// Adds to the source's report what the destination of the same host knows better.
    mutating func add(destination other: ReportDocument) {
        destination = other.destination
        postcopyBlocktimeNs = other.postcopyBlocktimeNs
        postcopyVcpuBlocktimeNs = other.postcopyVcpuBlocktimeNs
        postcopyLatencyNs = other.postcopyLatencyNs
        takeDistribution(of: other)
        samples = SampleLog.joined(samples, other.samples)
        missing = other.missing
        vcpusInLostMemory = other.vcpusInLostMemory
        ram.urgentPages = other.ram.urgentPages
        ram.backgroundPages = other.ram.backgroundPages
        if verify == nil { verify = other.verify }
        if source?.guestRunsHere != true { workloadStalls = other.workloadStalls }
        if status == MigrationStatus.completed.rawValue { status = other.status }
        if errorDesc == nil { errorDesc = other.errorDesc }
        guard let source, let destination = other.destination else { return }
        totalTimeNs = max(source.endedAtNs, destination.endedAtNs) - source.startedAtNs
        // One clock for both processes: no message's journey is counted.
        if let stopped = source.guestStoppedAtNs, let running = destination.guestRunningAtNs,
            running >= stopped
        {
            downtimeNs = running - stopped
        }
    }

    /// A source alone cannot see the verification of a workload that left.
    var isVerifiedElsewhere: Bool {
        command == SendCommand.name && status == MigrationStatus.completed.rawValue
            && verify == nil && !isOpaque
    }

    /// Whether the guest is a machine of which nothing can be verified here.
    var isOpaque: Bool { guest != nil }

    /// Whether the migration did all that it should, as far as this process can know.
    var isSuccess: Bool {
        guard status == MigrationStatus.completed.rawValue, errorDesc == nil else { return false }
        return isVerifiedElsewhere || isOpaque || verify?.isClean == true
    }
}

extension PhaseFigures {
    static func list(_ changes: [StatusChange], start: UInt64, end: UInt64) -> [PhaseFigures] {
        changes.enumerated().map { index, change in
            let next = index + 1 < changes.count ? changes[index + 1].atNanoseconds : end
            return PhaseFigures(
                status: change.status.rawValue,
                atNs: change.atNanoseconds - min(start, change.atNanoseconds),
                durationNs: next - min(next, change.atNanoseconds))
        }
    }
}

extension MissingFigures {
    static func list(_ missing: [MissingPages]) -> [MissingFigures]? {
        guard !missing.isEmpty else { return nil }
        return missing.map {
            MissingFigures(block: $0.block, hostPages: $0.hostPages, bytes: $0.bytes)
        }
    }
}

extension LatencyFigures {
    init(_ summary: LatencySummary) {
        self.init(
            count: summary.count, mean: summary.meanNanoseconds, p50: summary.p50Nanoseconds,
            p90: summary.p90Nanoseconds, p99: summary.p99Nanoseconds,
            p999: summary.p999Nanoseconds, max: summary.maxNanoseconds)
    }
}

extension VerifyFigures {
    init?(_ ending: WorkloadEnding, side: String) {
        guard let verification = ending.verification else { return nil }
        self.init(
            pages: verification.pages, mismatches: verification.mismatches,
            mismatchedWords: verification.mismatchedWords,
            vcpuMismatches: verification.stateMismatches.count, steps: ending.steps, side: side)
    }
}

extension WorkloadFigures {
    init(_ specification: WorkloadSpecification, _ plan: MemoryPlan) {
        self.init(
            memory: plan.lengthBytes, backing: plan.backing.rawValue, pageSize: plan.page.bytes,
            vcpus: specification.vcpuCount, pattern: specification.pattern.rawValue,
            writeFraction: specification.writeFraction, hotSet: specification.hotSetBytes,
            fill: specification.fill.rawValue, rate: specification.accessesPerSecond,
            seed: specification.seed)
    }
}

extension WorkloadEnding {
    var stallFigures: [StallFigures]? {
        guard !stalls.isEmpty else { return nil }
        return stalls.map {
            StallFigures(
                count: $0.count, totalNs: $0.totalNanoseconds, maxNs: $0.maxNanoseconds)
        }
    }
}
