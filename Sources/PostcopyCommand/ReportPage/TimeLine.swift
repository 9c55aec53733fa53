internal import Postcopy

/// The one time axis of a report: from the first side's start to the last one's end.
struct TimeLine {
    let origin: UInt64
    /// Above 0.
    let spanNs: Double
    let lanes: [Lane]
    /// When no page could flow, as either side saw it.
    let downSpans: [ClosedRange<Double>]
    /// From the guest's stop to its running on.
    let downtime: ClosedRange<Double>?

    /// What one side went through.
    struct Lane {
        let name: String
        let segments: [Segment]
    }

    struct Segment {
        let status: String
        /// Since the origin.
        let atNs: Double
        let durationNs: Double
    }

    init(_ document: ReportDocument) {
        let sides = [("Source", document.source), ("Destination", document.destination)]
            .compactMap { name, side in side.map { (name, $0) } }
        let origin = sides.map(\.1.startedAtNs).min() ?? 0
        self.origin = origin
        var lanes = sides.map { name, side in
            Lane(name, side.phases, from: side.startedAtNs.since(origin))
        }
        if lanes.isEmpty { lanes = [Lane("Migration", document.phases, from: 0)] }
        self.lanes = lanes
        let ends =
            lanes.flatMap(\.segments).map { $0.atNs + $0.durationNs }
            + sides.map { $0.1.endedAtNs.since(origin) }
            + (document.samples ?? []).map { $0.atNs.since(origin) }
        let spanNs = max(1, ends.max() ?? 1)
        self.spanNs = spanNs
        downSpans = Self.union(
            sides.flatMap { $0.1.breaks ?? [] }.map { broken in
                let from = min(spanNs, broken.pausedAtNs.since(origin))
                let to = min(spanNs, broken.resumedAtNs?.since(origin) ?? spanNs)
                return from...max(from, to)
            })
        downtime = Self.downtime(document, origin, spanNs)
    }

    private static func downtime(
        _ document: ReportDocument, _ origin: UInt64, _ spanNs: Double
    ) -> ClosedRange<Double>? {
        guard let stopped = document.source?.guestStoppedAtNs else { return nil }
        let from = stopped.since(origin)
        let running = document.destination?.guestRunningAtNs
        let to = running?.since(origin) ?? document.downtimeNs.map { from + Double($0) }
        guard let to, from <= to, to <= spanNs else { return nil }
        return from...to
    }

    /// The same time by spans that do not touch, in their order.
    static func union(_ spans: [ClosedRange<Double>]) -> [ClosedRange<Double>] {
        var result: [ClosedRange<Double>] = []
        for span in spans.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            if let last = result.last, span.lowerBound <= last.upperBound {
                result[result.count - 1] =
                    last.lowerBound...max(last.upperBound, span.upperBound)
            } else {
                result.append(span)
            }
        }
        return result
    }

    /// The axis for a drawing, in nanoseconds since the origin.
    func scale(_ canvas: Canvas) -> Scale {
        Scale(.linear, 0...spanNs, from: canvas.left, to: canvas.right)
    }

    func ticks(_ scale: Scale, _ canvas: Canvas) -> [Canvas.Tick] {
        let unit = AxisUnit.time(upTo: spanNs)
        return Canvas.Tick.list(scale.ticks(canvas.isNarrow ? 4 : 9, unit: unit.size), unit)
    }
}

extension TimeLine.Lane {
    init(_ name: String, _ phases: [PhaseFigures], from start: Double) {
        self.name = name
        segments = phases.map {
            TimeLine.Segment(
                status: $0.status, atNs: start + Double($0.atNs),
                durationNs: Double($0.durationNs))
        }
    }
}

/// How a status is shown: a class of the style sheet.
enum StatusKind {
    static func of(_ status: String) -> String {
        switch status {
        case "setup", "none": "status-setup"
        case "active": "status-active"
        case "device", "postcopy-device": "status-device"
        case "postcopy-active": "status-postcopy"
        case "postcopy-paused": "status-paused"
        case "postcopy-recover", "postcopy-recover-setup": "status-recover"
        case "completed": "status-completed"
        case "failed", "cancelled", "cancelling": "status-failed"
        default: "status-other"
        }
    }
}
