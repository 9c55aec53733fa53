internal import Postcopy

/// The total of all waits by what took it.
struct AttributionFigure {
    private let causes: [CauseFigures]
    private let totalNs: Double

    /// What is drawn; there are no more causes than this, but a report may say anything.
    private static let causesMax = 24

    /// `nil` where nothing was recorded, or nobody waited.
    init?(_ flight: FlightFigures) {
        let causes = flight.attribution.filter { $0.ns > 0 }.sorted { $0.ns > $1.ns }
        guard !causes.isEmpty else { return nil }
        self.causes = Array(causes.prefix(Self.causesMax))
        totalNs = max(Double(flight.totalNs), causes.reduce(0) { $0 + Double($1.ns) })
    }

    var figure: Figure {
        let places = CauseLabel.Place.allCases.filter { place in
            causes.contains { CauseLabel($0.cause).place == place }
        }
        return Figure(
            id: "attribution", title: "What the waiting consisted of", summary: summary,
            legend: places.map { .init(kind: $0.rawValue, text: $0.text) }, table: table,
            draw: draw)
    }

    private func share(_ cause: CauseFigures) -> String {
        Percent.text(share: Double(cause.ns) / totalNs)
    }

    private var summary: String {
        let named = causes.prefix(3).map { "\(CauseLabel($0.cause).name) \(share($0))" }
        return "\(Readable.time(totalNs)) in all: \(named.joined(separator: ", "))"
            + (causes.count > 3 ? ", and \(causes.count - 3) more." : ".")
    }

    private var table: DataTable {
        DataTable(
            caption: "The total of all waits by cause",
            head: ["Cause", "Time", "Share", "Waits that it dominated"],
            rows: causes.map { cause in
                [
                    CauseLabel(cause.cause).name, Readable.time(cause.ns), share(cause),
                    cause.waits.map { "\($0)" } ?? "",
                ]
            } + [["Total", Readable.time(totalNs), "100 %", ""]])
    }

    private func draw(_ canvas: inout Canvas) {
        let scale = Scale(.linear, 0...totalNs, from: 0, to: canvas.width.rawValue)
        var at = 0.0
        for cause in causes {
            let label = CauseLabel(cause.cause)
            let x = scale.span(at...at + Double(cause.ns))
            canvas.rect(
                x.lowerBound...max(x.lowerBound, x.upperBound - 1), 0...22,
                kind: label.place.rawValue,
                title: "\(label.name): \(Readable.time(cause.ns)), \(share(cause))")
            at += Double(cause.ns)
        }
        canvas.height = 40
        let rows = causes.map { cause in
            let label = CauseLabel(cause.cause)
            return BarRow(
                name: label.name, value: Double(cause.ns),
                text: "\(Readable.time(cause.ns)), \(share(cause))",
                kind: label.place.rawValue)
        }
        BarRow.draw(rows, &canvas)
    }
}
