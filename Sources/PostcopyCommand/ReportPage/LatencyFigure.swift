internal import Foundation
internal import Postcopy

/// How long waits lasted, on a logarithmic axis: every wait by its length, and the same waits in the
/// buckets that QEMU shows.
struct LatencyFigure {
    private let latency: LatencyFigures
    private let bins: [Bin]
    private let buckets: [Bin]

    /// Waits of `[from, to)` nanoseconds.
    struct Bin: Equatable {
        var fromNs: Double
        var toNs: Double
        var count: UInt64
    }

    /// Bars by each power of ten: a wait is then placed to 26 %, and a drawing of an hour and a
    /// nanosecond has no more than 125.
    private static let binsPerDecade = 10.0
    /// What a report may hold as an instant and a chart has room for: beyond an hour all is an hour.
    private static let longestNs = 3.6e12

    /// `nil` where nothing is known of waits, or nobody waited.
    init?(_ document: ReportDocument) {
        guard let latency = document.postcopyLatencyNs, latency.count > 0 else { return nil }
        self.latency = latency
        bins = document.postcopyLatencyHistogram.map(Self.bins) ?? []
        buckets = Self.buckets(document.postcopyLatencyDist ?? [])
    }

    /// The histogram's many values by fewer bars.
    static func bins(_ histogram: HistogramFigures) -> [Bin] {
        var counts: [Int: UInt64] = [:]
        for (value, count) in zip(histogram.valuesNs, histogram.counts) where count > 0 {
            let value = min(longestNs, max(1, Double(value)))
            let place = Int((log10(value) * binsPerDecade + 1e-9).rounded(.down))
            counts[place] = (counts[place] ?? 0).adding(count)
        }
        return counts.sorted { $0.key < $1.key }.map { place, count in
            Bin(
                fromNs: pow(10, Double(place) / binsPerDecade),
                toNs: pow(10, Double(place + 1) / binsPerDecade), count: count)
        }
    }

    /// Bucket n has the waits of `[2^n, 2^(n+1))` microseconds, the first also those below.
    private static func buckets(_ counts: [UInt64]) -> [Bin] {
        counts.prefix(LatencyBuckets.bucketCount).enumerated().filter { $0.element > 0 }
            .map { index, count in
                Bin(
                    fromNs: 1e3 * pow(2, Double(index)), toNs: 1e3 * pow(2, Double(index + 1)),
                    count: count)
            }
    }

    private var percentiles: [(name: String, ns: UInt64)] {
        [
            ("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99),
            ("p99.9", latency.p999), ("max", latency.max),
        ]
    }

    var figure: Figure {
        Figure(
            id: "latency", title: "How long waits for a page lasted", summary: summary,
            legend: legend, table: table, draw: draw)
    }

    private var summary: String {
        let marks = percentiles.map { "\($0.name) \(Readable.time($0.ns))" }
        let absent =
            [
                bins.isEmpty ? "The report holds no histogram of the waits." : nil,
                buckets.isEmpty ? "It holds none of QEMU's buckets either." : nil,
            ].compactMap(\.self).joined(separator: " ")
        let known =
            "\(Readable.count(latency.count, "wait", "waits")), mean "
            + "\(Readable.time(latency.mean)): \(marks.joined(separator: ", "))."
        return bins.isEmpty ? "\(known) \(absent)" : known
    }

    private var legend: [Figure.LegendEntry] {
        [
            bins.isEmpty ? nil : .init(kind: "bar-own", text: "waits, ten bars by power of ten"),
            buckets.isEmpty
                ? nil : .init(kind: "bar-qemu", text: "the same waits in QEMU's 24 buckets"),
        ].compactMap(\.self)
    }

    private var table: DataTable {
        let marks = percentiles.map { [$0.name, Readable.time($0.ns), ""] }
        func rows(_ name: String, _ bins: [Bin]) -> [[String]] {
            bins.map { bin in
                [
                    name, "\(Readable.time(bin.fromNs)) to \(Readable.time(bin.toNs))",
                    "\(bin.count)",
                ]
            }
        }
        return DataTable(
            caption: "Lengths of waits", head: ["What", "Length", "Waits"],
            rows: marks + rows("waits", bins) + rows("QEMU's bucket", buckets))
    }

    // MARK: Drawing

    private func draw(_ canvas: inout Canvas) {
        let lengths =
            (bins + buckets).flatMap { [$0.fromNs, $0.toNs] } + percentiles.map { Double($0.ns) }
        let least = max(1, lengths.filter { $0 > 0 }.min() ?? 1)
        let most = min(Self.longestNs * 2, max(least * 10, lengths.max() ?? 1))
        let scale = Scale(.logarithmic, least...most, from: canvas.left, to: canvas.right)
        let top = drawPercentileLabels(&canvas, scale)
        if !bins.isEmpty { drawBars("Waits", bins, kind: "bar-own", &canvas, scale) }
        if !buckets.isEmpty {
            drawBars("QEMU's buckets", buckets, kind: "bar-qemu", &canvas, scale)
        }
        // Without bars the marks stand on an axis of their own.
        if bins.isEmpty && buckets.isEmpty { canvas.height += 12 }
        let bottom = canvas.height
        // From each label a little way down; in the panels they go on.
        let isBare = bins.isEmpty && buckets.isEmpty
        drawPercentiles(&canvas, scale, from: top, to: isBare ? bottom : top + 6)
        canvas.behind { canvas in
            let ticks = scale.ticks(canvas.isNarrow ? 4 : 12).map { value in
                Canvas.Tick(value: value, text: AxisUnit.time(upTo: value * 1.01).text(value))
            }
            canvas.horizontalAxis(scale, ticks, top: top, bottom: bottom)
        }
        canvas.height = bottom + canvas.fontSize + 12
    }

    /// Each percentile's name and value above its line, in as many rows as they need; answers where
    /// the lines begin.
    private func drawPercentileLabels(_ canvas: inout Canvas, _ scale: Scale) -> Double {
        let lineHeight = canvas.fontSize + 5
        var ends: [Double] = []
        for mark in percentiles {
            let text = "\(mark.name) \(Readable.time(mark.ns))"
            let half = canvas.textWidth(text) / 2
            let x = scale.position(Double(mark.ns))
            let middle = min(max(x, half), canvas.width.rawValue - half)
            let row = ends.firstIndex { $0 <= middle - half } ?? ends.count
            if row == ends.count { ends.append(0) }
            ends[row] = middle + half + 6
            canvas.text(text, middle, Double(row + 1) * lineHeight - 4, .middle, kind: "mark")
        }
        canvas.height = Double(ends.count) * lineHeight
        return canvas.height
    }

    private func drawPercentiles(
        _ canvas: inout Canvas, _ scale: Scale, from top: Double, to bottom: Double
    ) {
        for mark in percentiles {
            let x = scale.position(Double(mark.ns))
            canvas.line((x, top), (x, bottom), kind: "percentile")
        }
    }

    private func drawBars(
        _ name: String, _ bins: [Bin], kind: String, _ canvas: inout Canvas, _ lengths: Scale
    ) {
        let panel = canvas.beginPanel(
            "\(name), by a logarithmic axis", height: canvas.isNarrow ? 96 : 132)
        let most = Double(bins.map(\.count).max() ?? 1)
        // From below 1, so that a single wait is seen.
        let counts = Scale(
            .logarithmic, 0.5...max(10, most), from: panel.upperBound, to: panel.lowerBound)
        let unit = AxisUnit.count(upTo:)
        canvas.verticalAxis(
            counts,
            counts.ticks(4).map { Canvas.Tick(value: $0, text: unit($0 * 1.01).text($0)) })
        canvas.line(
            (canvas.left, panel.upperBound), (canvas.right, panel.upperBound), kind: "axis")
        for bin in bins {
            let x = lengths.span(bin.fromNs...bin.toNs)
            let range = "\(Readable.time(bin.fromNs)) to \(Readable.time(bin.toNs))"
            canvas.rect(
                x.lowerBound...max(x.lowerBound, x.upperBound - 1),
                counts.position(Double(bin.count))...panel.upperBound, kind: kind,
                title: "\(range): \(Readable.count(bin.count, "wait", "waits"))")
        }
        drawPercentiles(&canvas, lengths, from: panel.lowerBound, to: panel.upperBound)
    }
}
