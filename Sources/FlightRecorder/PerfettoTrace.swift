/// A migration's faults for Perfetto (ui.perfetto.dev) or Chrome: a track for each thread that waited
/// with its waits and their parts, the source's work on requests, and the phases of either side.
///
/// Instants are microseconds since the first one recorded, on the destination's clock.
public struct PerfettoTrace {
    private let log: FaultLog
    private let clock: ClockOffset?
    private let destination: FaultLog.Destination
    private let numbers: [Int32: Int]
    /// The first instant of all.
    private let base: UInt64
    /// The source's own first instant, where there is no common clock.
    private let sourceBase: UInt64

    /// The trace of a log.
    public init(_ log: FaultLog) {
        self.log = log
        clock = ClockOffset(log)
        destination = log.destination ?? FaultLog.Destination()
        numbers = destination.vcpuNumbers
        let clock = clock
        let source = log.source ?? FaultLog.Source()
        let others = (source.side.phases.map(\.at) + source.services.map(\.received))
            .filter { $0 != 0 }
        sourceBase = others.min() ?? 0
        let own = destination.side.phases.map(\.at) + destination.waits.map(\.began)
        let known = own.filter { $0 != 0 } + (clock.map { others.map($0.onDestination) } ?? [])
        base = known.min() ?? 0
    }

    /// Hands the JSON on piece by piece.
    /// - Throws: what `sink` throws.
    public func write<Failure: Error>(
        to sink: @escaping ([UInt8]) throws(Failure) -> Void
    ) throws(Failure) {
        var writer = try TraceWriter<Failure>(base: base, sink: sink)
        try writeNames(to: &writer)
        try writePhases(destination.side, TraceTrack.destination, to: &writer) { $0 }
        if let source = log.source {
            try writePhases(source.side, TraceTrack.source, to: &writer) { onDestination($0) }
        }
        try writeWaits(to: &writer)
        try writeCounter(to: &writer)
        try writeServices(to: &writer)
        try writer.finish()
    }

    /// Phases stand above the threads, whose numbers are above 0.
    private static let phaseTrack = 0
    /// The source may serve one request while the background still writes another.
    private static let serviceTracks = 8

    /// Without a common clock each side begins at its own first instant.
    private func onDestination(_ instant: UInt64) -> UInt64 {
        guard instant != 0 else { return 0 }
        if let clock { return clock.onDestination(instant) }
        return base.addingCapped(instant - min(sourceBase, instant))
    }
}

extension PerfettoTrace {
    private func writeNames<Failure>(to writer: inout TraceWriter<Failure>) throws(Failure) {
        let sides = [(TraceTrack.destination, "destination"), (TraceTrack.source, "source")]
        for (process, name) in sides where process == TraceTrack.destination || log.source != nil {
            let track = TraceTrack(process: process, thread: Self.phaseTrack)
            try writer.name(name, of: track, "process_name")
            try writer.name("phases", of: track, "thread_name")
        }
        for thread in Set(destination.waits.map(\.thread)).sorted() {
            let vcpu = numbers[thread].map { number in
                "vcpu\(number)" + (destination.knownName(of: thread).map { " (\($0))" } ?? "")
            }
            try writer.name(
                vcpu ?? destination.name(of: thread), of: track(of: thread), "thread_name")
        }
        guard log.source != nil else { return }
        for lane in 1...Self.serviceTracks {
            try writer.name(
                "requests \(lane)", of: TraceTrack(process: TraceTrack.source, thread: lane),
                "thread_name")
        }
    }

    private func track(of thread: Int32) -> TraceTrack {
        TraceTrack(process: TraceTrack.destination, thread: Int(thread))
    }

    private func writePhases<Failure>(
        _ side: FaultLog.Side, _ process: Int, to writer: inout TraceWriter<Failure>,
        at instant: (UInt64) -> UInt64
    ) throws(Failure) {
        let track = TraceTrack(process: process, thread: Self.phaseTrack)
        for (index, phase) in side.phases.enumerated() {
            let isLast = index + 1 == side.phases.count
            let end = isLast ? max(side.endedAt, phase.at) : side.phases[index + 1].at
            try writer.slice(phase.status, of: track, from: instant(phase.at), to: instant(end))
        }
    }

    private func writeWaits<Failure>(to writer: inout TraceWriter<Failure>) throws(Failure) {
        let attribution = WaitAttribution(log, clock: clock)
        var parts: [WaitPart] = []
        for wait in destination.waits where wait.began != 0 {
            let track = track(of: wait.thread)
            try writer.slice(
                "wait", of: track, from: wait.began, to: wait.endedAt,
                [
                    ("block", .text(log.blockName(wait.block))),
                    ("page", .number(wait.page)),
                ])
            attribution.cut(wait, into: &parts)
            for part in parts {
                try writer.slice(part.cause.rawValue, of: track, from: part.from, to: part.to)
            }
        }
    }

    /// How many threads wait.
    private func writeCounter<Failure>(to writer: inout TraceWriter<Failure>) throws(Failure) {
        let waits = destination.waits.filter { $0.lengthNanoseconds > 0 }
        let begins = waits.map(\.began).sorted()
        let ends = waits.map(\.endedAt).sorted()
        let track = TraceTrack(process: TraceTrack.destination, thread: Self.phaseTrack)
        var (begun, ended) = (0, 0)
        while ended < ends.count {
            if begun < begins.count, begins[begun] < ends[ended] {
                begun += 1
                try writer.counter("waiting", of: track, at: begins[begun - 1], begun - ended)
            } else {
                ended += 1
                try writer.counter("waiting", of: track, at: ends[ended - 1], begun - ended)
            }
        }
    }

    /// Slices of a track may not cross: each goes to the first track that is free by then.
    private func writeServices<Failure>(to writer: inout TraceWriter<Failure>) throws(Failure) {
        var free = [UInt64](repeating: 0, count: Self.serviceTracks)
        let services = (log.source?.services ?? []).sorted { $0.begun < $1.begun }
        for service in services where service.begun != 0 && service.written >= service.begun {
            guard let lane = free.firstIndex(where: { $0 <= service.begun }) else { continue }
            free[lane] = service.written
            try writer.slice(
                "send", of: TraceTrack(process: TraceTrack.source, thread: lane + 1),
                from: onDestination(service.begun), to: onDestination(service.written),
                [
                    ("page", .number(service.page)), ("ahead", .number(UInt64(service.ahead))),
                    ("waited-ns", .number(service.begun - min(service.begun, service.received))),
                ])
        }
    }
}

extension FaultLog {
    /// The name of the block that a record names by its place.
    public func blockName(_ index: UInt16) -> String {
        blocks.indices.contains(Int(index)) ? blocks[Int(index)].name : "block \(index)"
    }
}
