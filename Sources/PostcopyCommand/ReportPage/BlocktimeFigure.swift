internal import Postcopy

/// How long each vCPU was blocked, all of them at once, and every other thread.
struct BlocktimeFigure {
    private let rows: [Row]
    private let vcpuCount: Int
    private let shown: [Row]

    private struct Row {
        let name: String
        let kind: String
        let ns: UInt64
        var latency: LatencyFigures?
    }

    /// Bars for vCPUs, and for other threads: a screen or two. Of more, those that waited longest.
    static let vcpusMax = 48
    static let othersMax = 12

    /// `nil` where no vCPU is known.
    init?(_ document: ReportDocument) {
        guard let times = document.postcopyVcpuBlocktimeNs, !times.isEmpty else { return nil }
        vcpuCount = times.count
        let latencies = document.postcopyVcpuLatencyNs ?? []
        let vcpus = times.enumerated().map { index, ns in
            Row(
                name: "vCPU \(index)", kind: "bar-vcpu", ns: ns,
                latency: latencies.indices.contains(index) ? latencies[index] : nil)
        }
        let overlapped = document.postcopyBlocktimeNs.map {
            [Row(name: "all at once", kind: "bar-overlapped", ns: $0)]
        }
        let others = (document.postcopyOtherLatencyNs ?? []).map { other in
            Row(
                name: other.name.isEmpty ? "(no name)" : other.name, kind: "bar-other",
                ns: other.totalNs, latency: other.latency)
        }
        rows = vcpus + (overlapped ?? []) + others
        shown =
            Downsampling.largest(vcpus, Self.vcpusMax) { Double($0.ns) } + (overlapped ?? [])
            + Downsampling.largest(others, Self.othersMax) { Double($0.ns) }
    }

    var figure: Figure {
        Figure(
            id: "blocktime", title: "How long each vCPU was blocked", summary: summary,
            legend: [
                .init(kind: "bar-vcpu", text: "a vCPU, in all its waits"),
                .init(kind: "bar-overlapped", text: "all vCPUs at once (overlapped)"),
                .init(kind: "bar-other", text: "a thread that is no vCPU"),
            ].filter { entry in shown.contains { $0.kind == entry.kind } },
            table: table, draw: draw)
    }

    private var summary: String {
        let vcpus = rows.prefix(vcpuCount)
        let total = vcpus.reduce(UInt64(0)) { $0.adding($1.ns) }
        let longest = vcpus.max { $0.ns < $1.ns }
        var text =
            "\(Readable.count(UInt64(vcpuCount), "vCPU", "vCPUs")) blocked for "
            + "\(Readable.time(total)) in all"
        if let longest, vcpuCount > 1 {
            text += "; longest \(longest.name), \(Readable.time(longest.ns))"
        }
        if let overlapped = rows.first(where: { $0.kind == "bar-overlapped" }) {
            text += "; all at once for \(Readable.time(overlapped.ns))"
        }
        let hidden = rows.count - shown.count
        return text + "." + (hidden > 0 ? " \(hidden) that waited less are not drawn." : "")
    }

    private var table: DataTable {
        DataTable(
            caption: "Blocktime",
            head: ["Who", "Blocked", "Waits", "Mean", "p50", "p99", "Max"],
            rows: rows.map { row in
                let figures = row.latency.map {
                    [
                        "\($0.count)", Readable.time($0.mean), Readable.time($0.p50),
                        Readable.time($0.p99), Readable.time($0.max),
                    ]
                }
                return [row.name, Readable.time(row.ns)] + (figures ?? ["", "", "", "", ""])
            })
    }

    private func draw(_ canvas: inout Canvas) {
        let bars = shown.map { row in
            BarRow(
                name: row.name, value: Double(row.ns), text: Readable.time(row.ns), kind: row.kind)
        }
        BarRow.draw(bars, &canvas)
    }
}
