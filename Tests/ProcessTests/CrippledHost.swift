import Foundation
import Glibc

/// `postcopy doctor` in a process from which something is really taken away first.
struct CrippledHost {
    let place: TestPlace
    /// A copy that others may run.
    private let program: String

    /// A line of the report.
    struct Line: Equatable, CustomStringConvertible {
        let state: String
        let finding: String
        let lost: String
        let remedy: String
        let command: String

        /// Apart from the finding, which may be a figure.
        var judgement: [String] { [state, lost, remedy, command] }
        var description: String { "\(state): \(finding); \(lost); \(remedy); \(command)" }
    }

    struct Report {
        let status: Int32
        let lines: [String: Line]
        let ended: RunningCommand.Ended
    }

    init(in place: TestPlace) throws {
        self.place = place
        program = place.path("postcopy")
        try FileManager.default.copyItem(
            atPath: RunningCommand.program.resolvingSymlinksInPath().path, toPath: program)
        for path in [place.folder.path, program] {
            try FileManager.default.setAttributes(
                [.posixPermissions: path == program ? 0o755 : 0o777], ofItemAtPath: path)
        }
    }

    /// Runs it behind a command that becomes it.
    func report(_ prefix: [String] = [], arguments: [String] = []) throws -> Report {
        let whole = prefix + [program, "doctor", "--quiet", "--json", "-"] + arguments
        let command = try RunningCommand(
            ["--"] + whole, in: place, program: URL(fileURLWithPath: "/usr/bin/env"))
        let ended = command.end(within: 60)
        let checks = ended.json["checks"] as? [[String: Any]] ?? []
        var lines: [String: Line] = [:]
        for check in checks {
            func text(_ key: String) -> String { check[key] as? String ?? "" }
            lines[text("name")] = Line(
                state: text("state"), finding: text("finding"), lost: text("lost"),
                remedy: text("remedy"), command: text("command"))
        }
        return Report(status: ended.status, lines: lines, ended: ended)
    }

    // MARK: What takes things away

    /// Commands of util-linux, each becoming the command that follows.
    static let nobody = [
        "setpriv", "--reuid", "65534", "--clear-groups", "--bounding-set", "-all",
        "--inh-caps=-all",
    ]
    static let withoutCapabilities = ["setpriv", "--bounding-set", "-all", "--inh-caps=-all"]

    /// A shell in mounts of its own, before the command.
    static func mounts(_ script: String) -> [String] {
        ["unshare", "--mount", "sh", "-c", "set -e; \(script); exec \"$@\"", "sh"]
    }

    static let withoutNodes = mounts("mount -t tmpfs none /dev")

    /// - Parameter answer: EPERM, ENOSYS, or KILL, which ends whoever makes the call.
    static func refusing(_ answer: String, _ calls: [Int] = everyCall) -> [String] {
        let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("scripts/refuse_calls.py").path
        return ["python3", script, answer, calls.map(String.init).joined(separator: ",")]
    }

    /// The numbers of system calls, which later ones share on all processors.
    static let ringSetup = 425
    #if arch(x86_64)
        static let userfaultfd = 323
        static let eventOpen = 298
    #else
        static let userfaultfd = 282
        static let eventOpen = 241
    #endif
    static let everyCall = [userfaultfd, ringSetup, eventOpen]

    /// Whether this host lets a test take things away: by root with util-linux and Python.
    static let isPossible: Bool = {
        guard geteuid() == 0 else { return false }
        let answer = try? inPlace { place in
            let host = try CrippledHost(in: place)
            let trials = [nobody, mounts("true"), refusing("EPERM")]
            return try trials.allSatisfy { try !host.report($0).lines.isEmpty }
        }
        return answer == true
    }()
}
