import ArgumentParser
import Foundation
import Testing

@testable import PostcopyCommand

@Suite struct ReportReaderTests {
    private static func refusal(_ text: String) -> Refusal? {
        do throws(Refusal) {
            _ = try ReportReader.document(Data(text.utf8), name: "run.json")
            return nil
        } catch {
            return error
        }
    }

    private static var good: String { String(decoding: fullReport().encoded(), as: UTF8.self) }

    @Test("what was written is read")
    func whole() throws {
        #expect(try ReportReader.document(fullReport().encoded(), name: "a") == fullReport())
        #expect(try ReportReader.document(fullReport().encodedLine(), name: "a") == fullReport())
    }

    @Test("a report that was cut anywhere is refused in a line that says so")
    func cuts() {
        let text = Self.good
        for length in stride(from: 1, to: text.utf8.count - 2, by: 37) {
            let refusal = Self.refusal(String(text.prefix(length)))
            #expect(refusal?.exitStatus == 1)
            #expect(
                refusal?.description
                    == "run.json ends in the middle, after \(length) bytes: it was "
                    + "cut; take the whole report")
        }
    }

    /// What is wrong with a text that is no report, and a word of the refusal.
    private static var wrong: [(String, String)] {
        [
            ("", "is empty"), (" \n", "is empty"), ("[1]", "is no JSON report"),
            ("hello", "is no JSON report"), ("\u{FEFF}{}", "is no JSON report"),
            ("{}", "no report of a migration"), ("{\"schema\": 1}", "no report of a migration"),
            ("{\"schema\": 1, \"main\": {}}", "no report of a migration"),
            ("{\"schema\": \"x\"}", "another kind 'schema'"),
            (good.replacing("\"schema\" : 1", with: "\"schema\" : 7"), "schema 7, which is newer"),
            (good.replacing("\"schema\" : 1", with: "\"schema\" : 0"), "no report of a migration"),
            (
                good.replacing("\"schema\" : 1", with: "\"schema\" : 1e99"),
                "a value that no report has"
            ),
            (good.replacing("\"cpus\" : 2", with: "\"cpus\" : \"2\""), "kind 'machine' 'cpus'"),
            (good.replacing("\"cpus\" : 2", with: "\"cpu\" : 2"), "lacks 'machine' 'cpus'"),
            (good.replacing("\"cpus\" : 2", with: "\"cpus\" : -2.5"), "a value that no report has"),
            (good.replacing("\"cpus\" : 2", with: "\"cpus\", 2"), "is no JSON at byte"),
        ]
    }

    @Test("what is no report is refused with the place and the remedy", arguments: wrong.indices)
    func refusals(index: Int) {
        let (text, word) = Self.wrong[index]
        let says = Self.refusal(text)?.description ?? "nothing"
        #expect(says.contains(word), "\(says)")
        #expect(!says.contains("\n"))
    }

    @Test("a schema that is newer is told before anything else of the report is understood")
    func newer() {
        #expect(
            Self.refusal("{\"schema\": 2, \"strange\": []}")?.description
                == "run.json has schema 2, which is newer than this program reads (1): take the "
                + "postcopy that wrote it")
    }
}

@Suite struct ReportCommandTests {
    private let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("postcopy-report-\(UUID().uuidString)")

    private func inFolder(_ body: (URL) throws -> Void) throws {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try fullReport().encoded().write(to: folder.appendingPathComponent("run.json"))
        try body(folder)
    }

    private func draw(_ report: URL, _ page: URL) throws {
        try ReportCommand.parse([report.path, "-o", page.path]).draw()
    }

    private func names(_ folder: URL) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
    }

    @Test("a page appears where it was asked for, in place of an older one, and nothing else does")
    func page() throws {
        try inFolder { folder in
            let page = folder.appendingPathComponent("page.html")
            try Data("older".utf8).write(to: page)
            try draw(folder.appendingPathComponent("run.json"), page)
            let html = try String(contentsOf: page, encoding: .utf8)
            #expect(html.hasPrefix("<!doctype html>") && html.hasSuffix("</html>\n"))
            #expect(html.contains("run.json"))
            #expect(try names(folder) == ["page.html", "run.json"])
        }
    }

    @Test("a page never takes the report's place, by whatever name, nor that of a folder")
    func places() throws {
        try inFolder { folder in
            let report = folder.appendingPathComponent("run.json")
            let link = folder.appendingPathComponent("link.json")
            let twin = folder.appendingPathComponent("twin.json")
            try FileManager.default.createSymbolicLink(at: link, withDestinationURL: report)
            try FileManager.default.linkItem(at: report, to: twin)
            for other in [report, link, twin] {
                #expect(throws: Refusal.self) { try draw(report, other) }
            }
            #expect(throws: Refusal.self) { try draw(report, folder) }
            #expect(throws: Refusal.self) {
                try draw(report, folder.appendingPathComponent("none/page.html"))
            }
            #expect(throws: Refusal.self) {
                try draw(
                    folder.appendingPathComponent("gone.json"), folder.appendingPathComponent("p"))
            }
            #expect(throws: Refusal.self) { try draw(folder, folder.appendingPathComponent("p")) }
            #expect(try Data(contentsOf: report) == fullReport().encoded())
            #expect(try names(folder) == ["link.json", "run.json", "twin.json"])
        }
    }
}
