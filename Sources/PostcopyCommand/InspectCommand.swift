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

    @Option(
        parsing: .unconditionalSingleValue,
        help: "The main channel of a recovery, once for each in their order.")
    var resumed: [String] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: "The return path of each --resumed, in their order.")
    var resumedReturnPath: [String] = []

    @Option(
        parsing: .unconditionalSingleValue,
        help: "The preempt channel of each --resumed, in their order.")
    var resumedPreempt: [String] = []

    @Flag(
        name: .shortAndLong,
        help: "A line for each section, command and request; twice: for each run of pages.")
    var verbose: Int

    @OptionGroup(title: "Report") var report: ReportOptions

    func run() throws {
        Interruption.leaveToSystem()
        let paths = [file, returnPath, preempt] + resumed + resumedReturnPath + resumedPreempt
        guard paths.count(where: { $0 == "-" }) <= 1 else {
            throw Refusal.usage("standard input can be one channel only: give files for the others")
        }
        let place = try ReportFile(path: report.json)
        try ReportFile.checkApart([("--json", place)], from: paths.compactMap(\.self))
        let links = try openLinks()
        let text: StandardStream = place.isStandardOutput ? .error : .output
        for (number, link) in links.enumerated() { try link.checkKinds(isResumed: number > 0) }
        let document = try InspectionReport.document(
            of: links,
            detail: InspectionDetail(rawValue: min(verbose, InspectionDetail.runs.rawValue))
                ?? .summary,
            stream: report.quiet ? nil : text)
        try place.write(document)
        guard let line = document.problemLine else { return }
        ProblemLine.write(line)
        throw ExitCode.failure
    }
}

extension InspectCommand {
    private func openLinks() throws -> [LinkFiles] {
        let main = try ChannelFile(path: file)
        var links = [
            LinkFiles(
                main: main, returnPath: try open(returnPath, "--return-path"),
                preempt: try open(preempt, "--preempt"))
        ]
        let others = [
            (resumedReturnPath, "--resumed-return-path"), (resumedPreempt, "--resumed-preempt"),
        ]
        for (paths, option) in others where paths.count > resumed.count {
            throw Refusal.usage(
                "there are more \(option) than --resumed: give both for each recovery")
        }
        for (number, path) in resumed.enumerated() {
            links.append(
                LinkFiles(
                    main: try ChannelFile(path: path, option: "--resumed"),
                    returnPath: try open(Self.element(number, of: resumedReturnPath), others[0].1),
                    preempt: try open(Self.element(number, of: resumedPreempt), others[1].1)))
        }
        return links
    }

    private func open(_ path: String?, _ option: String) throws -> ChannelFile? {
        try path.map { try ChannelFile(path: $0, option: option) }
    }

    private static func element(_ index: Int, of paths: [String]) -> String? {
        paths.indices.contains(index) ? paths[index] : nil
    }
}

extension LinkFiles {
    /// - Throws: `Refusal` for a file that seems to hold something else.
    fileprivate func checkKinds(isResumed: Bool) throws {
        if isResumed { try main.checkIsRecovery() } else { try main.checkKind(for: .main) }
        try returnPath?.checkKind(for: .returnPath)
        try preempt?.checkKind(for: .preempt)
    }
}

extension ChannelFile {
    /// - Throws: `Refusal` for a file that is not the main channel of a recovery.
    fileprivate func checkIsRecovery() throws {
        while unreadCount < Self.kindBytes, try fill() {}
        guard ChannelKind(bytes) != .recovery else { return }
        throw Refusal.environment(
            "\(path) begins with no RECV_BITMAP, POSTCOPY_RESUME or hello, and was given as the main "
                + "channel of a recovery")
    }

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
        let links = (resumed ?? []).flatMap { [$0.main, $0.returnPath, $0.preempt] }
        let channels = ([main, returnPath, preempt] + links).compactMap(\.self)
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
