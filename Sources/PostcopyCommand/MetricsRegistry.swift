internal import CoreMetrics
internal import Postcopy
internal import Synchronization

/// The metrics backend of this command: keeps the newest numbers, and writes them as OpenMetrics text.
final class MetricsRegistry: MetricsFactory, Sendable {
    private let families = Mutex<[String: MetricFamily]>([:])

    /// All of it, as the format wants it: metrics by name, a line for each number, and the end marked.
    /// Source: OpenMetrics 1.0.0 (`OpenMetrics Text Format`).
    var text: String {
        let families = families.withLock { $0.values.sorted { $0.name < $1.name } }
        return (families.flatMap(\.lines) + ["# EOF"]).map { "\($0)\n" }.joined()
    }

    // MARK: MetricsFactory

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        series(label, .counter, dimensions) { CountSeries() }
    }

    func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        series(label, .counter, dimensions) { SumSeries() }
    }

    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        series(label, .gauge, dimensions) { GaugeSeries() }
    }

    func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        aggregate
            ? series(label, .histogram, dimensions) { WaitSeries() }
            : series(label, .gauge, dimensions) { GaugeSeries() }
    }

    /// Nothing that this command tells is timed by its backend.
    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        NOOPMetricsHandler.instance
    }

    /// Numbers stay for whoever reads them next.
    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    func destroyMeter(_ handler: any MeterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}

    /// The series of this name and these dimensions, made where there is none of that kind.
    private func series<Series: MetricSeries>(
        _ label: String, _ kind: MigrationMetric.Kind, _ dimensions: [(String, String)],
        _ make: () -> Series
    ) -> Series {
        let labels = MetricText.labels(dimensions)
        return families.withLock { families in
            var family = families[label] ?? MetricFamily(label: label, kind: kind)
            if let known = family.series[labels] as? Series { return known }
            let series = make()
            // Two kinds under one name would be no text that anybody can read: the first one stays.
            guard family.kind == kind, family.series[labels] == nil else { return series }
            family.series[labels] = series
            families[label] = family
            return series
        }
    }
}

/// All numbers of one name.
struct MetricFamily: Sendable {
    /// Without what its samples add to it.
    let name: String
    let kind: MigrationMetric.Kind
    private let metric: MigrationMetric?
    /// By their labels as they are written.
    var series: [String: any MetricSeries] = [:]

    init(label: String, kind: MigrationMetric.Kind) {
        let plain = MetricText.name(label)
        let suffix = MetricText.counterSuffix
        let isMarked = kind == .counter && plain.hasSuffix(suffix)
        name = isMarked ? String(plain.dropLast(suffix.count)) : plain
        self.kind = kind
        metric = MigrationMetric(rawValue: label)
    }

    var lines: [String] {
        var lines = ["# TYPE \(name) \(kind.rawValue)"]
        if let unit = metric?.unit { lines.append("# UNIT \(name) \(unit)") }
        if let help = metric?.help { lines.append("# HELP \(name) \(MetricText.escaped(help))") }
        let sampleName = kind == .counter ? name + MetricText.counterSuffix : name
        for (labels, series) in series.sorted(by: { $0.key < $1.key }) {
            lines += series.samples.map { sample in
                let all = [labels, sample.labels].filter { !$0.isEmpty }.joined(separator: ",")
                let braces = all.isEmpty ? "" : "{\(all)}"
                return "\(sampleName)\(sample.suffix)\(braces) \(sample.value)"
            }
        }
        return lines
    }
}

/// How names and texts are written.
enum MetricText {
    static let counterSuffix = "_total"

    /// Letters, digits and `_`, and no digit at the front.
    static func name(_ text: String) -> String {
        let plain = String(
            text.map { character in
                character.isASCII && (character.isLetter || character.isNumber) ? character : "_"
            })
        return plain.first?.isNumber != false ? "_\(plain)" : plain
    }

    static func labels(_ dimensions: [(String, String)]) -> String {
        dimensions.map { "\(name($0.0))=\"\(escaped($0.1))\"" }.sorted().joined(separator: ",")
    }

    static func escaped(_ text: String) -> String {
        var result = ""
        // By scalars: "\r\n" is one character.
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
