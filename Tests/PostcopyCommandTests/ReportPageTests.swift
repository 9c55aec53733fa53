import Foundation
import Testing

@testable import PostcopyCommand

@Suite struct ReportPageTests {
    private static func page(_ document: ReportDocument) -> String {
        ReportPage(document: document, name: "run.json").html
    }

    private static func rich() -> ReportDocument {
        var rich = RichReport(seed: 1)
        return rich.document()
    }

    /// A few of each thing, so that it is drawn some hundred times.
    private static func little() -> ReportDocument {
        var document = rich()
        var flight = document.flight
        document.samples = document.samples?.suffix(4)
        flight?.worst.removeLast(18)
        flight?.map?.faults = [[1, 2], [120, 3]]
        flight?.map?.urgent = []
        flight?.map?.background = []
        document.flight = flight
        document.postcopyLatencyHistogram = HistogramFigures(
            valuesNs: [1_000, 2_000], counts: [3, 4])
        return document
    }

    private static let figures = ["timeline", "latency", "blocktime", "map", "attribution"]

    @Test("a report that holds everything has every figure, each with two drawings and a table")
    func everything() {
        let html = Self.page(Self.rich())
        for id in Self.figures {
            #expect(html.contains("<figure id=\"\(id)\""), "\(id)")
            for width in ["narrow", "wide"] {
                #expect(html.contains("<title id=\"\(id)-\(width)-title\">"))
                #expect(html.contains("<desc id=\"\(id)-\(width)-desc\">"))
            }
        }
        #expect(html.components(separatedBy: "<table").count - 1 == Self.figures.count + 1)
        #expect(!html.contains("class=\"absent\""))
        #expect(html.contains("Keep the link up, or get it back sooner"))
        // The last sample's, and not its bits as another number.
        #expect(html.contains("3.29 GiB sent; 3.29 GiB received; at most 4 vCPUs waiting"))
    }

    /// What may be missing, and the sentence that then says so.
    private static let absences: [(String, @Sendable (inout ReportDocument) -> Void, String)] = [
        ("samples", { $0.samples = nil }, "The report holds no samples"),
        ("samples that are none", { $0.samples = [] }, "The report holds no samples"),
        ("histogram", { $0.postcopyLatencyHistogram = nil }, "holds no histogram of the waits"),
        ("buckets", { $0.postcopyLatencyDist = nil }, "none of QEMU&#39;s buckets"),
        ("latency", { $0.postcopyLatencyNs = nil }, "says of no wait how long it lasted"),
        ("blocktime", { $0.postcopyVcpuBlocktimeNs = nil }, "holds no blocktime"),
        ("map", { $0.flight?.map = nil }, "holds no map of faults"),
        ("flight", { $0.flight = nil }, "says nothing of causes"),
        ("causes", { $0.flight?.attribution = [] }, "says nothing of causes"),
        ("worst waits", { $0.flight?.worst = [] }, "names no single wait"),
        ("flight's bound", { $0.flight = nil }, "states no bound"),
    ]

    @Test(
        "what is missing is said in a sentence, and the page is whole", arguments: absences.indices)
    func absence(index: Int) {
        let (name, remove, sentence) = Self.absences[index]
        var document = Self.rich()
        document.postcopyLatencyHistogram?.counts = [1]
        document.postcopyLatencyHistogram?.valuesNs = [1_000]
        if name == "buckets" { document.postcopyLatencyHistogram = nil }
        #expect(!Self.page(Self.rich()).contains(sentence))
        remove(&document)
        let html = Self.page(document)
        #expect(html.contains(sentence), "\(name)")
        #expect(html.hasSuffix("</html>\n"))
    }

    @Test("a report of either side alone, and one of neither, is a whole page")
    func oneSide() {
        for keep in 0..<4 {
            var document = fullReport()
            if keep & 1 == 0 { document.source = nil }
            if keep & 2 == 0 { document.destination = nil }
            let html = Self.page(document)
            #expect(html.contains("<figure id=\"timeline\""))
            #expect(html.contains(">Source<") == (keep & 1 != 0))
            #expect(html.contains(">Destination<") == (keep & 2 != 0))
            #expect(html.contains(">Migration<") == (keep == 0))
        }
    }

    @Test("names of a report are never markup, wherever they stand")
    func markup() throws {
        var document = Self.rich()
        document.channels.uri = RichReport.markup
        document.channels.proxy = RichReport.markup
        document.status = RichReport.markup
        document.errorDesc = RichReport.markup
        document.workload?.pattern = RichReport.markup
        document.samples?[3].status = RichReport.markup
        document.source?.phases[1].status = RichReport.markup
        document.flight?.timing.boundedBy = RichReport.markup
        document.guest = try SomeGuest.named(RichReport.markup)
        let html = ReportPage(document: document, name: RichReport.markup).html
        #expect(!html.contains("<img") && !html.contains("\u{202E}") && !html.contains("\u{0}"))
        #expect(html.contains("&lt;img src=x onerror=alert(1)&gt;&amp;&quot;&#39;"))
        #expect(!html.contains("<script"))
    }

    @Test("a page stays small, however much a report holds")
    func bounded() {
        var rich = RichReport(seed: 2, vcpus: 4_000, breaks: 2_000)
        var document = rich.document()
        let samples = document.samples ?? []
        document.samples = (0..<100).flatMap { _ in samples }
        let values = Array(UInt64(1)...1_000_000)
        document.postcopyLatencyHistogram = HistogramFigures(
            valuesNs: values, counts: values.map { $0 % 9 })
        let map = (0..<200_000).map { [UInt64($0), UInt64($0 % 90)] }
        document.flight?.map?.columns = 1_000
        document.flight?.map?.rows = 1_000
        document.flight?.map?.faults = map
        document.flight?.map?.background = map
        let worst = document.flight?.worst ?? []
        document.flight?.worst += worst
        let html = Self.page(document)
        #expect(html.components(separatedBy: "<").count < 16_000)
        #expect(html.utf8.count < 1_500_000)
    }

    @Test("numbers that no migration has make a page too, and no trap")
    func extremes() throws {
        let text = String(decoding: Self.little().encoded(), as: UTF8.self)
        let keys = Self.keysOfNumbers(text)
        // All at once, and then every number of the report, one kind of number after the other.
        var drawn = 0
        let each = ["18446744073709551615", "9223372036854775807", "-9223372036854775808"]
        let cases =
            [(keys.joined(separator: "|"), "0")] + keys.flatMap { key in each.map { (key, $0) } }
        for (key, number) in cases {
            let changed = text.replacing(
                try Regex("\"(\(key))\" : (\\[[^\\[\\]{}]*\\]|-?[0-9.]+)"),
                with: { match in
                    let name = match.output[1].substring ?? ""
                    return match.output[2].substring?.first == "["
                        ? "\"\(name)\" : [\(number), \(number), \(number)]"
                        : "\"\(name)\" : \(number)"
                })
            // What does not fit into its type is refused, which is right as well.
            guard changed != text,
                let document = try? ReportDocument(decoding: Data(changed.utf8))
            else { continue }
            #expect(Self.page(document).hasSuffix("</html>\n"), "\(key) \(number)")
            drawn += 1
        }
        #expect(drawn > keys.count)
    }

    private static func keysOfNumbers(_ json: String) -> Set<String> {
        Set(
            json.split(separator: "\n").compactMap { line in
                let parts = line.split(separator: "\"")
                guard parts.count == 3, let rest = parts[2].dropFirst(3).first else { return nil }
                return rest.isNumber || rest == "-" || rest == "[" ? String(parts[1]) : nil
            })
    }

    @Test("a migration that failed says why, in the first line")
    func failure() {
        var document = fullReport()
        document.status = "failed"
        document.errorDesc = "the peer went"
        #expect(Self.page(document).contains("<h1>Failed: the peer went; "))
        document.status = "completed"
        document.errorDesc = nil
        document.missing = nil
        #expect(Self.page(document).contains("<h1>The migration completed in 1.00 us"))
    }
}

/// A machine, which only a stream or a report can make.
private struct SomeGuest: JSONReport {
    var guest: GuestFigures

    static func named(_ name: String) throws -> GuestFigures {
        let json = """
            {"guest": {"machine-type": "x", "blocks": [{"name": "x", "bytes": 1, "page-size": 1}]}}
            """
        var guest = try SomeGuest(decoding: Data(json.utf8)).guest
        guest.machineType = name
        guest.blocks[0].name = name
        return guest
    }
}
