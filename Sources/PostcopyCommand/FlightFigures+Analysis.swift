internal import Postcopy
internal import StreamWire

extension FlightFigures {
    /// `nil` for the word of a source alone, at which nobody waits.
    init?(_ log: FaultLog) {
        guard log.destination != nil else { return nil }
        self.init(FaultAnalysis(log), of: log)
    }

    init(_ analysis: FaultAnalysis, of log: FaultLog) {
        self.init(
            timing: TimingFigures(analysis.timing), clock: analysis.clock.map { ClockFigures($0) },
            totalNs: analysis.causes.total,
            attribution: analysis.causes.sorted.map { cause, nanoseconds in
                CauseFigures(
                    cause: cause.rawValue, ns: nanoseconds,
                    waits: analysis.waitsByCause[cause] ?? 0)
            },
            worst: analysis.worst.map { WaitFigures($0, in: log) },
            map: analysis.map.map { MapFigures($0) }, recordedWaits: analysis.waits.count,
            lostWaits: log.destination?.lostWaits ?? 0)
    }
}

extension TimingFigures {
    init(_ timing: FaultTiming) {
        let bound = timing.boundNanoseconds
        self.init(
            kernelTimed: timing.kernelTimed, handlerTimed: timing.handlerTimed,
            readDelayMeanNs: timing.readDelayNanosecondsMean,
            readDelayMaxNs: timing.readDelayNanosecondsMax, boundNs: bound ?? 0,
            boundedBy: bound == nil ? "unknown" : timing.handlerTimed == 0 ? "kernel" : "read-delay"
        )
    }

    /// How the beginnings of waits were timed, for people; nothing where nobody waited.
    var pieces: [String] {
        guard kernelTimed > 0 || handlerTimed > 0 else { return [] }
        guard handlerTimed > 0 else {
            return [
                "by the kernel", "read \(Readable.time(readDelayMeanNs)) later on average",
                "\(Readable.time(readDelayMaxNs)) at most",
            ] + (probe == nil ? [] : bounds)
        }
        guard kernelTimed > 0 else { return ["when they were read"] + bounds }
        return ["\(kernelTimed) by the kernel", "\(handlerTimed) when they were read"] + bounds
    }

    /// How far the total may be off, for people.
    private var bounds: [String] {
        if boundedBy == "unknown" { return ["what that leaves out is not known"] }
        let below = "at most \(Readable.time(boundNs)) left out"
        return probe.map {
            [
                below, "\(Readable.time($0.overNs)) too much",
                "\(Readable.time($0.lateNs)) more until the vCPUs ran again",
            ]
        } ?? [below]
    }
}

extension ClockFigures {
    init(_ clock: ClockOffset) {
        self.init(
            isShared: clock.isShared, offsetNs: clock.nanoseconds, errorNs: clock.errorNanoseconds)
    }
}

extension WaitFigures {
    init(_ worst: FaultAnalysis.ExplainedWait, in log: FaultLog) {
        let wait = worst.wait
        let index = Int(wait.block)
        let page = log.blocks.indices.contains(index) ? log.blocks[index].hostPageBytes : 0
        let (offset, isOver) = wait.page.multipliedReportingOverflow(by: page)
        self.init(
            thread: wait.thread, name: log.destination?.threadNames[wait.thread],
            vcpu: log.destination?.vcpuNumbers[wait.thread], block: log.blockName(wait.block),
            offset: isOver ? .max : offset, atNs: wait.began, ns: wait.lengthNanoseconds,
            parts: worst.parts.sorted.map {
                CauseFigures(cause: $0.cause.rawValue, ns: $0.nanoseconds)
            },
            reason: worst.reason)
    }

    /// Who waited, fit for a terminal.
    var party: String {
        if let vcpu { return "vcpu\(vcpu)" }
        return name.map { PeerText.plain($0) } ?? "thread \(thread)"
    }
}

extension CauseFigures {
    /// The cause in words that follow its share.
    var text: String { DelayCause(rawValue: cause)?.text ?? PeerText.plain(cause) }
}

extension MapFigures {
    init(_ map: FaultMap) {
        func cells(_ counts: [UInt64]) -> [[UInt64]] {
            counts.enumerated().filter { $0.element > 0 }.map { [UInt64($0.offset), $0.element] }
        }
        self.init(
            columns: FaultMap.columns, rows: FaultMap.rows, fromNs: map.from, toNs: map.to,
            bytes: map.bytes, faults: cells(map.faults), urgent: cells(map.urgent),
            background: cells(map.background))
    }
}

extension FlightFigures {
    /// The largest causes with their share of the whole, for people.
    var causePieces: [String] {
        attribution.prefix(4).filter { $0.ns > 0 }
            .map { "\(Percent.text($0.ns, of: totalNs)) \($0.text)" }
    }
}
