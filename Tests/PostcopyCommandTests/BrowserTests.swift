import Foundation
import TestSupport
import Testing

@testable import PostcopyCommand

/// Pages in a real browser, which Tests/Pages/check.py drives.
@Suite struct BrowserTests {
    private static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let python = repository.appendingPathComponent(".build/pages/bin/python3")
    private static let browser = "/usr/bin/chromium"

    /// With what `make test` installs.
    private static let canRun = [python.path, browser].allSatisfy {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    /// Some 15 s where nothing else computes.
    private static let secondsMax = 240

    @Test(
        "pages are legible, named, reached by keys and printed, at both widths, in light and dark",
        .enabled(if: canRun, "needs Chromium and the Python packages that make test installs"),
        .timeLimit(.minutes(5)))
    func pages() async throws {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-pages-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        var paths: [String] = []
        for (name, document) in Self.documents() {
            let path = folder.appendingPathComponent("\(name).html")
            try Data(ReportPage(document: document, name: "\(name).json").html.utf8).write(to: path)
            paths.append(path.path)
        }
        let shots = Self.repository.appendingPathComponent(".build/page-screenshots")
        let (status, text) = try await ForeignProgram.run(
            Self.python,
            [
                Self.repository.appendingPathComponent("Tests/Pages/check.py").path,
                "--browser", Self.browser, "--screenshots", shots.path,
            ] + paths, secondsMax: Self.secondsMax)
        #expect(status == 0, "\(text)")
        #expect(text.contains("\(paths.count * 4) views, 0 problems"), "\(text)")
    }

    /// Everything, nothing that is new, and a great deal of everything.
    private static func documents() -> [(name: String, document: ReportDocument)] {
        var rich = RichReport(seed: 1)
        var many = RichReport(seed: 2, vcpus: 300, breaks: 60)
        return [("rich", rich.document()), ("plain", fullReport()), ("many", many.document())]
    }
}
