import ArgumentParser
import Foundation
import Postcopy
import Testing

@testable import PostcopyCommand

@Suite("blocktime of reports that say anything")
struct BlocktimeEdgeTests {
    /// With all that `blocktime` reads, and few enough numbers to try each.
    private static func report() -> ReportDocument {
        var rich = RichReport(seed: 3)
        var report = rich.document()
        report.samples = nil
        report.flight?.map = nil
        report.flight?.worst.removeLast(18)
        report.postcopyLatencyHistogram = HistogramFigures(
            valuesNs: [100, 500, 70_000], counts: [3, 1, 2])
        return report
    }

    private static func shown(_ runs: [BlocktimeRun]) -> String {
        let document = BlocktimeDocument(
            runs: runs, merged: runs.count > 1 ? .merged(runs) : nil)
        return BlocktimeText(document, columns: 80).text + BlocktimeCSV(document).text
            + String(decoding: document.encoded(), as: UTF8.self)
    }

    /// Copies of a JSON value that differ in one number: of a list, in its first or last.
    private static func variants(of value: Any, _ edge: NSNumber) -> [Any] {
        switch value {
        case let object as [String: Any]:
            return object.flatMap { key, child in
                variants(of: child, edge).map { object.merging([key: $0]) { $1 } as Any }
            }
        case let list as [Any]:
            return Set([0, list.count - 1]).filter(list.indices.contains).flatMap { place in
                variants(of: list[place], edge).map { changed in
                    var copy = list
                    copy[place] = changed
                    return copy as Any
                }
            }
        case is NSNumber: return [edge]
        default: return []
        }
    }

    @Test("any number may be any number", arguments: [0, 1, 1 << 63, .max] as [UInt64])
    func numbers(edge: UInt64) throws {
        let plain = try BlocktimeRun(Self.report(), name: "plain", path: "plain.json")
        let object = try JSONSerialization.jsonObject(with: Self.report().encoded())
        var shown = 0
        for variant in Self.variants(of: object, NSNumber(value: edge)) {
            let data = try JSONSerialization.data(withJSONObject: variant)
            guard let report = try? ReportReader.document(data, name: "a.json"),
                let run = try? BlocktimeRun(report, name: "a", path: "a.json")
            else { continue }
            #expect(!Self.shown([run]).isEmpty)
            #expect(!Self.shown([run, plain, run]).isEmpty)
            shown += 1
        }
        #expect(shown > 100)
    }

    @Test("a histogram that is none is refused")
    func histograms() throws {
        let wrong: [([UInt64], [UInt64])] = [
            ([500, 100], [1, 1]), ([5, 5], [1, 1]), ([5], [1, 1]), ([5, 6], [1]),
        ]
        for (values, counts) in wrong {
            var report = Self.report()
            report.postcopyLatencyHistogram = HistogramFigures(valuesNs: values, counts: counts)
            #expect(throws: Refusal.self) { try BlocktimeRun(report, name: "a", path: "a.json") }
        }
    }

    @Test("there are no more buckets than QEMU has", arguments: [0, 3, 24, 25, 54, 55, 90])
    func buckets(count: Int) throws {
        var report = Self.report()
        report.postcopyLatencyDist = Array(repeating: .max, count: count)
        let run = try BlocktimeRun(report, name: "a", path: "a.json")
        let plain = try BlocktimeRun(Self.report(), name: "plain", path: "plain.json")
        let rows = Self.shown([run]).split(separator: "\r\n").count { $0.contains(",bucket,") }
        #expect(rows == min(count, LatencyBuckets.bucketCount))
        #expect(BlocktimeRun.merged([run, plain]).dist?.count == LatencyBuckets.bucketCount)
    }

    @Test("a sum of which one part is not known has no causes")
    func unknownPart() throws {
        var silent = Self.report()
        silent.flight = nil
        let runs = try [Self.report(), silent].map {
            try BlocktimeRun($0, name: "a", path: "a.json")
        }
        for pair in [runs, runs.reversed()] {
            let merged = BlocktimeRun.merged(pair)
            #expect(merged.attribution.isEmpty && merged.attributedNs == nil)
        }
    }

    @Test("nothing of a report reaches the terminal as a command to it")
    func escapes() throws {
        var report = Self.report()
        report.flight?.worst[0].reason = "\u{1B}[31mred"
        let run = try BlocktimeRun(report, name: "\u{1B}c", path: "a.json")
        for runs in [[run], [run, run]] {
            let text = BlocktimeText(BlocktimeDocument(runs: runs), columns: 80).text
            #expect(!text.contains("\u{1B}"))
        }
    }

    @Test("a problem is one line that a terminal shows and does not obey")
    func problemLine() {
        #expect(
            ProblemLine.line("no\u{1B}[2J file\n here") == "postcopy: no\\u{1b}[2J file here")
    }

    @Test("a thread with a vCPU's name has a row of its own")
    func namesake() throws {
        var report = Self.report()
        report.postcopyOtherLatencyNs?[0].name = "vcpu0"
        let run = try BlocktimeRun(report, name: "a", path: "a.json")
        let text = BlocktimeText(BlocktimeDocument(runs: [run, run]), columns: 80).text
        #expect(text.split(separator: "\n").count { $0.hasPrefix("  vcpu0 ") } == 2)
    }

    @Test("every quote is doubled, whatever it is one character with")
    func quotes() {
        let field = BlocktimeCSV.field("a\"\u{301}b")
        #expect(Array(field.unicodeScalars) == Array("\"a\"\"\u{301}b\"".unicodeScalars))
    }

    @Test("no line of a run's table is wider than the terminal", arguments: 20...90)
    func tables(columns: Int) {
        var rich = RichReport(seed: 5)
        for report in [fullReport(), rich.document()] {
            let lines = SummaryTable(report).text(columns: columns)
                .split(separator: "\n", omittingEmptySubsequences: false)
            #expect(lines.allSatisfy { $0.count <= columns }, "\(lines)")
        }
    }

    @Test("no file is written twice, or instead of what is read, by whatever name")
    func places() throws {
        try inFolder { folder in
            let path = { (name: String) in folder.appendingPathComponent(name).path }
            let files = FileManager.default
            let report = Self.report().encoded()
            try report.write(to: URL(fileURLWithPath: path("run.json")))
            try files.createSymbolicLink(
                atPath: path("link"), withDestinationPath: path("run.json"))
            try files.createSymbolicLink(atPath: path("here"), withDestinationPath: ".")
            let names = [
                ["run.json"], ["link"], ["here/run.json"], ["new", "new"], ["new", "here/new"],
                ["new", "./new"], ["link", "other"],
            ]
            for outputs in names {
                let written = try outputs.map { try ReportFile(path: path($0)) }
                #expect(throws: Refusal.self, "\(outputs)") {
                    try ReportFile.checkApart(
                        written.map { ("--json", $0) }, from: [path("run.json")])
                }
            }
            let apart = try ["new", "other", "/dev/null", "/dev/null", "-"].map {
                ("--json", try ReportFile(path: $0.hasPrefix("/") || $0 == "-" ? $0 : path($0)))
            }
            try ReportFile.checkApart(apart, from: [path("run.json"), "-"])
            let recording = try RecordingOptions.parse([
                "--trace", path("z"), "--fault-log", path("z"),
            ])
            #expect(throws: Refusal.self) {
                try RecordingFiles(recording, beside: .none, isChild: false)
            }
        }
    }
}
