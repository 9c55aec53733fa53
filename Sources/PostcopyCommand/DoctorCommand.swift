internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import Postcopy

/// `postcopy doctor`: what this host allows.
struct DoctorCommand: ParsableCommand {
    static let name = "doctor"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Tries what this host allows, and says what is lost and what helps.",
        discussion: """
            Each line is ok, degraded (with what is lost) or missing (with what does not work), and \
            names the remedy and a command to paste. All is really tried, by this process and for \
            this user, and nothing of it is left behind. Colours are used on a terminal, unless \
            NO_COLOR is set.

            The exit status is 0 when postcopy works here, also with lines that are degraded or \
            miss what only some guests need; 2 when something is missing that postcopy cannot do \
            without; 3 with --strict when any other line is not ok; 1 when the report could not be \
            written, and 64 for options that cannot be.
            """)

    @Flag(help: "Fails, with status 3, also where something is only degraded.")
    var strict = false

    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        Interruption.leaveToSystem()
        let place = try ReportFile(path: report.json)
        let document = DoctorDocument(
            checks: Diagnosis(
                probes: .probe(folder: PrivateFolder.temporaryFolder), cpuCount: Machine.cpuCount
            ).checks, machine: Machine.figures())
        try place.write(document)
        if !report.quiet {
            let isOutput = !place.isStandardOutput
            let descriptor = isOutput ? STDOUT_FILENO : STDERR_FILENO
            let table = DoctorTable(
                document: document, hasColors: Console.hasColors(descriptor))
            try (isOutput ? StandardStream.output : .error).print(
                table.text(columns: Console.columns(of: descriptor)), what: "the table")
        }
        let status = document.exitStatus(isStrict: strict)
        if status != 0 {
            ProblemLine.write(document.summary)
            throw ExitCode(status)
        }
    }
}
