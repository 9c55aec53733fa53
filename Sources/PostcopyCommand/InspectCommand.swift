internal import ArgumentParser
internal import Glibc
internal import Postcopy
internal import StreamWire

/// `postcopy inspect`: what a captured migration says, and where it is wrong.
struct InspectCommand: ParsableCommand {
    static let name = "inspect"
    static let configuration = CommandConfiguration(
        commandName: name,
        abstract: "Prints a captured migration stream, and says where and why it is wrong.",
        discussion: """
            A channel is captured as it is sent: by QEMU's 'migrate exec:cat>FILE', or by whatever \
            stands between both sides. The exit status is 0 when all channels are whole and right, \
            and 1 when one is not.
            """)

    @Argument(help: "The main channel, from the bytes QEVM on; '-' for standard input.")
    var file: String

    @Option(
        parsing: .unconditional,
        help: "What the destination sent back on the main connection: pongs, requests, SHUT.")
    var returnPath: String?

    @Option(parsing: .unconditional, help: "The channel of the pages that somebody waited for.")
    var preempt: String?

    @Flag(
        name: .shortAndLong,
        help: "A line for each section, command and request; twice: for each run of pages.")
    var verbose: Int

    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        // Nothing is left behind: both signals end the process as they would without this program.
        for number in [SIGINT, SIGTERM, SIGPIPE] { signal(number, SIG_DFL) }
        guard [file, returnPath, preempt].count(where: { $0 == "-" }) <= 1 else {
            throw Refusal.usage("standard input can be one channel only: give files for the others")
        }
        let place = try ReportFile(path: report.json)
        let main = try ChannelFile(path: file)
        let others = try [
            (ChannelRole.returnPath, returnPath, "--return-path"),
            (.preempt, preempt, "--preempt"),
        ].compactMap { role, path, option in
            try path.map { (role, try ChannelFile(path: $0, option: option)) }
        }
        let text: StandardStream = place.isStandardOutput ? .error : .output
        try main.checkKind(for: .main)
        for (role, file) in others { try file.checkKind(for: role) }
        let document = try InspectionReport.document(
            of: main, others,
            detail: InspectionDetail(rawValue: min(verbose, InspectionDetail.runs.rawValue))
                ?? .summary,
            stream: report.quiet ? nil : text)
        try place.write(document)
        guard let line = document.problemLine else { return }
        ProblemLine.write(line)
        throw ExitCode.failure
    }
}

extension ChannelFile {
    /// - Throws: `Refusal` for a file that seems to hold something else.
    fileprivate func checkKind(for role: ChannelRole) throws {
        while unreadCount < Self.kindBytes, try fill() {}
        let kind = ChannelKind(bytes)
        if role == .main {
            guard unreadCount > 0 else { throw Refusal.environment("\(path) is empty") }
            if let refusal = kind.refusal(asMain: path, firstBytes: bytes) { throw refusal }
        } else if unreadCount > 0, let other = kind.role, other != role {
            throw Refusal.environment(
                "\(path) begins like a \(other.rawValue), and was given as the \(role.rawValue)")
        }
    }

    /// The longest name of a block behind a record's word.
    private static var kindBytes: Int { 264 }
}

extension InspectionDocument {
    /// What is wrong, in one line; `nil` when nothing is.
    fileprivate var problemLine: String? {
        let channels = [main, returnPath, preempt].compactMap(\.self)
        guard let channel = channels.first(where: { !$0.problems.isEmpty }),
            let first = channel.problems.first(where: \.endsReading) ?? channel.problems.first
        else { return nil }
        let count = channels.reduce(UInt64(0)) {
            $0 + UInt64($1.problems.count) + ($1.problemsOmitted ?? 0)
        }
        let others = count > 1 ? "; \(Readable.count(count - 1, "problem", "problems")) more" : ""
        let file = channel.file == "-" ? "standard input" : channel.file
        return "\(file) at byte \(first.offset): \(first.text)\(others)"
    }
}
