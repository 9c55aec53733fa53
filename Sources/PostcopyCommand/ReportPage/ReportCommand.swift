internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import Postcopy

/// `postcopy report`: a report as a page to look at.
struct ReportCommand: ParsableCommand {
    static let name = "report"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Draws a migration's JSON report as one page of HTML.",
        discussion: """
            The page is complete in itself: it loads nothing, runs no script, and opens in any browser, \
            on a telephone, in light and dark and on paper.
            """)

    @Argument(help: "A report that --json wrote; '-' for standard input.")
    var report: String

    @Option(
        name: [.short, .long], help: "Writes the page to FILE, or to standard output with '-'.")
    var output: String

    func run() throws {
        Interruption.leaveToSystem()
        try draw()
    }

    /// - Throws: `Refusal` when there is no such report, or the page cannot be written.
    func draw() throws {
        let place = try ReportFile(path: output, option: "--output")
        try ReportFile.checkApart([("--output", place)], from: [report])
        let document = try ReportReader.read(path: report)
        let name =
            report == "-"
            ? InputFile.name(of: report)
            : URL(fileURLWithPath: report).lastPathComponent
        let page = ReportPage(document: document, name: name)
        try place.write(Data(page.html.utf8), what: "the page")
    }
}
