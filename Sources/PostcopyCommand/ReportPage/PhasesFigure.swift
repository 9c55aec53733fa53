internal import Postcopy

/// What both sides went through, on one time axis, with the bytes, rates and waiting vCPUs below it.
struct PhasesFigure {
    let document: ReportDocument
    let time: TimeLine
    let series: SampleSeries?

    init(_ document: ReportDocument) {
        self.document = document
        time = TimeLine(document)
        series = SampleSeries(document.samples ?? [], time)
    }

    /// A lane has that many segments at most; links may break without end.
    static let segmentsMax = 120
    static let downSpansMax = 120

    var figure: Figure {
        Figure(
            id: "timeline", title: "What happened when", summary: summary, legend: legend,
            table: table, draw: draw)
    }

    private var summary: String {
        var parts = time.lanes.map { lane in
            let count = Readable.count(UInt64(lane.segments.count), "phase", "phases")
            return "\(lane.name): \(count)"
        }
        let down = time.downSpans.reduce(0) { $0 + $1.upperBound - $1.lowerBound }
        let breaks = UInt64(time.downSpans.count)
        parts.append(
            breaks == 0
                ? "the link did not break"
                : "the link was down \(Readable.count(breaks, "time", "times")), "
                    + "\(Readable.time(down)) in all")
        if let series { parts += series.sentences }
        let missing =
            series == nil
            ? " The report holds no samples, so bytes and waiting vCPUs over time are not shown."
            : ""
        let isCut = time.lanes.contains { $0.segments.count > Self.segmentsMax }
        let cut = isCut ? " The shortest phases are not drawn." : ""
        return "Over \(Readable.time(time.spanNs)). \(parts.joined(separator: "; "))."
            + missing + cut
    }

    private var legend: [Figure.LegendEntry] {
        var seen: [String] = []
        for segment in time.lanes.flatMap(\.segments)
        where segment.durationNs > 0 && !seen.contains(segment.status) && seen.count < 16 {
            seen.append(segment.status)
        }
        var entries = seen.map { Figure.LegendEntry(kind: StatusKind.of($0), text: $0) }
        if time.downtime != nil {
            entries.append(.init(kind: "downtime", text: "guest stopped (downtime)"))
        }
        if !time.downSpans.isEmpty {
            entries.append(.init(kind: "down", text: "link down"))
        }
        return entries
    }

    private var table: DataTable {
        let rows = time.lanes.flatMap { lane in
            lane.segments.map { segment in
                (
                    at: segment.atNs,
                    cells: [
                        segment.status, lane.name, Readable.time(segment.atNs),
                        segment.durationNs == 0 ? "" : Readable.time(segment.durationNs),
                    ]
                )
            }
        }
        let sampled = (series?.tableRows ?? []).map { (at: $0.at, cells: $0.cells) }
        let breaks = time.downSpans.map { span in
            (
                at: span.lowerBound,
                cells: [
                    "link down", "both", Readable.time(span.lowerBound),
                    Readable.time(span.upperBound - span.lowerBound),
                ]
            )
        }
        return DataTable(
            caption: "Phases, breaks of the link and samples",
            head: ["What", "Side", "At", "For"],
            rows: (rows + breaks + sampled).sorted { $0.at < $1.at }.map(\.cells),
            words: [0, 1])
    }

    // MARK: Drawing

    private func draw(_ canvas: inout Canvas) {
        let scale = time.scale(canvas)
        if let downtime = time.downtime { drawLabel(of: downtime, &canvas, scale) }
        let top = canvas.height
        for lane in time.lanes { drawLane(lane, &canvas, scale) }
        if !time.downSpans.isEmpty { drawLink(&canvas, scale) }
        series?.draw(&canvas, scale)
        let bottom = canvas.height
        canvas.behind { canvas in
            if let downtime = time.downtime {
                canvas.rect(
                    scale.span(downtime), top...bottom, kind: "downtime",
                    title: Self.text(of: downtime))
            }
            canvas.horizontalAxis(scale, time.ticks(scale, canvas), top: top, bottom: bottom)
        }
        canvas.height = bottom + canvas.fontSize + 12
    }

    private static func text(of downtime: ClosedRange<Double>) -> String {
        let length = downtime.upperBound - downtime.lowerBound
        return "guest stopped for \(Readable.time(length))"
    }

    private func drawLabel(
        of downtime: ClosedRange<Double>, _ canvas: inout Canvas, _ scale: Scale
    ) {
        let label = Self.text(of: downtime)
        let half = canvas.textWidth(label) / 2
        let span = scale.span(downtime)
        let middle = (span.lowerBound + span.upperBound) / 2
        let inside = min(max(middle, half), canvas.width.rawValue - half)
        canvas.text(label, inside, canvas.fontSize, .middle)
        canvas.height = canvas.fontSize + 6
    }

    private func drawLane(_ lane: TimeLine.Lane, _ canvas: inout Canvas, _ scale: Scale) {
        let bar = canvas.beginPanel(lane.name, height: 24)
        let shown = Downsampling.largest(lane.segments, Self.segmentsMax, by: \.durationNs)
        for segment in shown {
            let end = segment.atNs + segment.durationNs
            let x = scale.span(segment.atNs...max(segment.atNs, end))
            let lasted = Readable.time(segment.durationNs)
            canvas.rect(
                x, bar, kind: "segment \(StatusKind.of(segment.status))",
                title: "\(lane.name): \(segment.status) for \(lasted)")
            let room = x.upperBound - x.lowerBound - 12
            if canvas.textWidth(segment.status) <= room {
                let baseline = bar.lowerBound + 12 + canvas.fontSize * 0.36
                canvas.text(segment.status, x.lowerBound + 6, baseline, kind: "value")
            }
        }
    }

    private func drawLink(_ canvas: inout Canvas, _ scale: Scale) {
        let bar = canvas.beginPanel("Link down", height: 14)
        let shown = Downsampling.largest(time.downSpans, Self.downSpansMax) {
            $0.upperBound - $0.lowerBound
        }
        for down in shown {
            let lasted = Readable.time(down.upperBound - down.lowerBound)
            canvas.rect(scale.span(down), bar, kind: "down", title: "link down for \(lasted)")
        }
    }
}
