internal import Postcopy
internal import ArgumentParser
internal import Foundation
internal import Glibc

/// What a command prints while it works and at its end.
struct ReportOutput {
    let console: Console
    private let file: ReportFile
    private let recording: RecordingFiles
    private let hasTable: Bool

    /// - Parameter isChild: another process prints the table, with both sides in it.
    /// - Parameter inputs: files that the command reads.
    /// - Throws: `Refusal` when a file cannot be written where it should.
    init(
        _ options: ReportOptions, recording: RecordingOptions? = nil, isChild: Bool = false,
        reading inputs: [String] = []
    ) throws {
        file = try ReportFile(path: options.json)
        self.recording = try RecordingFiles(recording, beside: file, isChild: isChild)
        try ReportFile.checkApart([("--json", file)], from: inputs)
        console = Console(quiet: options.quiet)
        hasTable = !options.quiet && !isChild
    }

    /// Writes the report in both forms, and what was recorded of faults.
    /// - Throws: the exit status unless the migration did all that it should.
    func finish(_ document: ReportDocument, faultLog: FaultLog? = nil) throws {
        try finish(
            document, faultLog: faultLog,
            table: document.hasBegun ? { SummaryTable(document).text(columns: $0) } : nil,
            failure: document.isSuccess ? nil : document.failureLine)
    }

    /// - Throws: the exit status unless all clients were served.
    func finish(_ document: ServeDocument) throws {
        try finish(
            document,
            table: document.clients.isEmpty
                ? nil : { ServeTable(document: document).text(columns: $0) },
            failure: document.failureLine)
    }

    /// - Parameter table: by the width that it has; `nil` where there is nothing to list.
    private func finish(
        _ document: some JSONReport, faultLog: FaultLog? = nil, table: ((Int) -> String)?,
        failure: String?
    ) throws {
        console.clear()
        if hasTable, let table {
            // Where only a file may go, the table goes beside the progress.
            let isTaken = file.isStandardOutput || recording.isStandardOutput
            let stream = isTaken ? StandardStream.error : .output
            let descriptor = isTaken ? STDERR_FILENO : STDOUT_FILENO
            stream.write(table(Console.columns(of: descriptor)))
        }
        try file.write(document)
        try recording.write(faultLog, console)
        guard let failure else { return }
        ProblemLine.write(failure)
        throw ExitCode(
            Interruption.wasAsked ? Interruption.exitStatus : ExitCode.failure.rawValue)
    }
}

extension ReportDocument {
    /// Takes the word of a destination that could not report it itself.
    mutating func note(_ destinationProblem: String?) {
        guard let destinationProblem, destination?.errorDesc == nil else { return }
        if errorDesc == nil {
            errorDesc = "destination: \(destinationProblem)"
        } else if destination == nil {
            errorDesc?.append("; destination: \(destinationProblem)")
        }
    }

    /// Whether the two sides ever met: before that there is one line to say and nothing to list.
    var hasBegun: Bool { phases.contains { $0.status == MigrationStatus.setup.rawValue } }

    /// What went wrong, in one line that begins with the status.
    var failureLine: String {
        var parts = [errorDesc ?? "no reason is known"]
        if status == "completed", let verify, !verify.isClean {
            parts = [verify.text]
        } else if status == "completed", verify == nil, errorDesc == nil, !isOpaque {
            parts = ["the memory was not verified"]
        }
        parts += (missing ?? []).map(\.text)
        if status == MigrationStatus.postcopyPaused.rawValue { parts.append(pausedEnd) }
        if let verify, verify.side == "source" {
            parts.append("the workload ran on at the source (\(verify.text))")
        }
        var text = parts.joined(separator: "; ")
        // "cancelled: cancelled before a source connected" says it twice.
        if text.hasPrefix("\(status) ") { text.removeFirst(status.count + 1) }
        return "\(status): \(text)"
    }
}

extension ReportDocument {
    /// Whether somebody gave the guest up, at either side.
    private var isAbandoned: Bool {
        source?.isAbandoned == true || destination?.isAbandoned == true
    }

    /// What it means that the link is down and this process ends.
    private var pausedEnd: String {
        guard isAbandoned else { return missing == nil ? debt : "the guest waits there for them" }
        let isHere = destination != nil
        switch (missing != nil, isHere) {
        case (true, _): return "somebody gave the guest up, and it is lost with these pages"
        case (false, true): return "somebody gave it up although every page is at the destination"
        case (false, false): return "somebody gave the migration up: \(debt), and end with it"
        }
    }

    /// What is left to say when no page is known to be missing.
    private var debt: String {
        guard command == ReceiveCommand.name, let guest else { return sourceDebt }
        let place = guest.park.map { "in \($0)" } ?? "here and is thrown away"
        return "the machine is whole \(place), and its source may not know: "
            + "only one of them may go on"
    }

    /// What a source can say of a guest that has moved and of whose destination it hears nothing.
    private var sourceDebt: String {
        // The downtime is known once the destination has said that it runs the guest.
        guard downtimeNs != nil else {
            return "the destination did not confirm that it runs the guest; its memory is whole "
                + "only in this process, which ends now and cannot take it back: the guest may "
                + "be lost"
        }
        return "the guest is at the destination, and at least "
            + "\(Readable.bytes(ram.remaining ?? 0)) of its memory are only here"
    }
}

extension VerifyFigures {
    var text: String { pieces.joined(separator: ", ") }

    var pieces: [String] {
        var pieces = [
            "\(Readable.count(UInt64(pages), "page", "pages")) compared after \(steps) steps",
            "\(mismatches) mismatches",
        ]
        if vcpuMismatches > 0 { pieces.append("\(vcpuMismatches) vCPUs not where they should be") }
        return pieces
    }
}
