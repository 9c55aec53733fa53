internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import Postcopy

/// `postcopy blocktime`: how long a guest was blocked, where and why.
struct BlocktimeCommand: ParsableCommand {
    static let name = "blocktime"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Says how long a migrated guest was blocked, which of its threads, and why.",
        discussion: """
            A file is what --json or --fault-log wrote. A fault log knows every wait, a report their \
            sums; the fault logs of 'send' and 'receive' of one migration belong together. Several \
            runs stand side by side.
            """)

    @Argument(
        help: "Reports and fault logs of 'run', 'receive' and 'send'; '-' for standard input.")
    var files: [String]

    @Flag(help: "Adds all runs up as one more.")
    var merge = false

    @Option(help: "Writes the figures as CSV to FILE, or to standard output with '-'.")
    var csv: String?

    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        Interruption.leaveToSystem()
        let json = try ReportFile(path: report.json)
        let table = try ReportFile(path: csv, option: "--csv")
        guard !(json.isStandardOutput && table.isStandardOutput) else {
            throw Refusal.usage("standard output takes --json or --csv: give a file for the other")
        }
        try ReportFile.checkApart([("--json", json), ("--csv", table)], from: files)
        let runs = try BlocktimeFiles.runs(files)
        let document = BlocktimeDocument(
            runs: runs, merged: merge && runs.count > 1 ? .merged(runs) : nil)
        try json.write(document)
        try table.write(Data(BlocktimeCSV(document).text.utf8), what: "the CSV")
        if !report.quiet {
            let isTaken = json.isStandardOutput || table.isStandardOutput
            let stream = isTaken ? StandardStream.error : .output
            let columns = Console.columns(of: isTaken ? STDERR_FILENO : STDOUT_FILENO)
            try stream.print(
                BlocktimeText(document, columns: columns).text, what: "the table")
        }
    }
}

/// What `postcopy blocktime` found, as JSON.
struct BlocktimeDocument: JSONReport, Equatable {
    /// Grows when a key changes its meaning or goes.
    static let currentSchema = 1

    var schema = currentSchema
    var command = BlocktimeCommand.name
    var runs: [BlocktimeRun]
    /// All of them as one, where that was asked for.
    var merged: BlocktimeRun?

    /// What is shown beside each other.
    var columns: [BlocktimeRun] { runs + (merged.map { [$0] } ?? []) }
}
