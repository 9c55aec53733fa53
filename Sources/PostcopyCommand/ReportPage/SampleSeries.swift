internal import Postcopy

/// What was sampled while the migration went on, on its time axis.
struct SampleSeries {
    private typealias Point = Downsampling.Point

    private let spanNs: Double
    private let samples: [SampleFigures]
    private let origin: UInt64
    private let sent: [Point]
    private let received: [Point]
    private let waiting: [Point]

    /// Parts of the axis that a line has a value for; steps a few units wide are as fine as a
    /// screen shows.
    private static func parts(_ canvas: Canvas) -> Int { canvas.isNarrow ? 80 : 160 }
    /// What a table of them shows of hundreds.
    private static let tableRowsMax = 40

    /// `nil` where nothing was sampled.
    init?(_ samples: [SampleFigures], _ time: TimeLine) {
        guard !samples.isEmpty else { return nil }
        let samples = samples.sorted { $0.atNs < $1.atNs }
        self.samples = samples
        origin = time.origin
        spanNs = time.spanNs
        func points(_ value: (SampleFigures) -> Double?) -> [Point] {
            samples.compactMap { sample in
                value(sample).map { Point(at: sample.atNs.since(time.origin), value: $0) }
            }
        }
        sent = points { $0.sentBytes.map { Double($0) } }
        received = points { $0.receivedBytes.map { Double($0) } }
        waiting = points { $0.waitingVcpus.map { Double(max(0, $0)) } }
    }

    var sentences: [String] {
        func most(_ points: [Point]) -> Double? { points.map(\.value).max() }
        return [
            most(sent).map { "\(Readable.bytes($0)) sent" },
            most(received).map { "\(Readable.bytes($0)) received" },
            most(waiting).map {
                "at most \(Readable.count(UInt64(nearest: $0), "vCPU", "vCPUs")) waiting"
            },
        ].compactMap(\.self)
    }

    var tableRows: [(at: Double, cells: [String])] {
        Downsampling.spread(samples, Self.tableRowsMax).map { sample in
            let at = sample.atNs.since(origin)
            let figures = [
                sample.sentBytes.map { "\(Readable.bytes($0)) sent" },
                sample.receivedBytes.map { "\(Readable.bytes($0)) received" },
                sample.remainingBytes.map { "\(Readable.bytes($0)) remaining" },
                sample.waitingVcpus.map { "\($0) vCPUs waiting" },
            ].compactMap(\.self)
            let text = "sample in \(sample.status): \(figures.joined(separator: ", "))"
            return (at, [text, "both", Readable.time(at), ""])
        }
    }

    // MARK: Drawing

    func draw(_ canvas: inout Canvas, _ time: Scale) {
        if sent.isEmpty && received.isEmpty && waiting.isEmpty { return }
        if !sent.isEmpty || !received.isEmpty {
            drawLines(
                name: "Bytes", lines(canvas) { $0 }, unit: AxisUnit.bytes, &canvas, time)
            drawLines(
                name: canvas.isNarrow ? "Bytes/s" : "Bytes per second", lines(canvas, rates),
                unit: AxisUnit.bytes, &canvas,
                time)
        }
        if !waiting.isEmpty { drawWaiting(&canvas, time) }
    }

    private struct Line {
        let name: String
        let kind: String
        /// At the edges of equal parts of the axis.
        let values: [Double]
    }

    private func lines(_ canvas: Canvas, _ change: ([Double]) -> [Double]) -> [Line] {
        [("sent", "line-sent", sent), ("received", "line-received", received)]
            .filter { !$0.2.isEmpty }.map { name, kind, points in
                let values = Downsampling.resampled(
                    points, over: 0...spanNs, parts: Self.parts(canvas))
                return Line(name: name, kind: kind, values: change(values))
            }
    }

    /// By the second; as many as there are totals.
    private func rates(_ totals: [Double]) -> [Double] {
        let seconds = spanNs / Double(max(1, totals.count - 1)) / 1e9
        let rates = zip(totals, totals.dropFirst()).map { max(0, $1 - $0) / seconds }
        return [rates.first ?? 0] + rates
    }

    private func drawLines(
        name: String, _ lines: [Line], unit: (Double) -> AxisUnit, _ canvas: inout Canvas,
        _ time: Scale
    ) {
        let panel = canvas.beginPanel(name, height: canvas.isNarrow ? 72 : 96)
        drawKeys(lines, &canvas, at: panel.lowerBound - 6)
        let largest = max(1, lines.flatMap(\.values).max() ?? 1)
        let scale = Scale(
            .linear, 0...largest, from: panel.upperBound, to: panel.lowerBound)
        let axis = unit(largest)
        canvas.verticalAxis(scale, Canvas.Tick.list(scale.ticks(3, unit: axis.size), axis))
        for line in lines {
            var path = Path()
            let width = (time.end - time.start) / Double(max(1, line.values.count - 1))
            for (index, value) in line.values.enumerated() {
                let (x, y) = (time.start + Double(index) * width, scale.position(value))
                if index == 0 { path.move(x, y) } else { path.line(x, y) }
            }
            canvas.path(path.text, kind: line.kind)
        }
    }

    /// Which line is which, at the right above the panel.
    private func drawKeys(_ lines: [Line], _ canvas: inout Canvas, at baseline: Double) {
        var x = canvas.right
        for line in lines.reversed() {
            canvas.text(line.name, x, baseline, .end)
            x -= canvas.textWidth(line.name) + 6
            let y = baseline - canvas.fontSize * 0.35
            canvas.line((x - 18, y), (x, y), kind: line.kind)
            x -= 30
        }
    }

    private func drawWaiting(_ canvas: inout Canvas, _ time: Scale) {
        let panel = canvas.beginPanel(
            "vCPUs waiting for a page", height: canvas.isNarrow ? 48 : 64)
        let peaks = Downsampling.peaks(waiting, over: 0...spanNs, parts: Self.parts(canvas))
        let largest = max(1, peaks.max() ?? 1)
        let scale = Scale(
            .linear, 0...largest, from: panel.upperBound, to: panel.lowerBound)
        let unit = AxisUnit.count(upTo: largest)
        let ticks = scale.ticks(2, unit: unit.size).filter { $0 == $0.rounded() }
        canvas.verticalAxis(scale, Canvas.Tick.list(ticks, unit))
        var path = Path()
        let width = (time.end - time.start) / Double(peaks.count)
        path.move(time.start, panel.upperBound)
        for (index, value) in peaks.enumerated() {
            let y = scale.position(value)
            path.line(time.start + Double(index) * width, y)
            path.line(time.start + Double(index + 1) * width, y)
        }
        path.line(time.end, panel.upperBound)
        canvas.path(path.text + "Z", kind: "area-waiting")
    }
}
