internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import StreamWire

/// The command `postcopy`.
@main
struct PostcopyTool: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "postcopy",
        abstract: "Moves a running test workload from one process to another by postcopy.",
        discussion: """
            Sizes are written 4096, 64K, 256M or 4G; times 500ms or 2s; addresses tcp:HOST:PORT or \
            unix:PATH. The exit status is 0 only when the migration completed and every page was \
            found right, 130 after Ctrl-C, 64 for options that cannot be, and 1 otherwise.
            """,
        subcommands: [
            RunCommand.self, ReceiveCommand.self, SendCommand.self, RelayCommand.self,
            InspectCommand.self, BlocktimeCommand.self, ReportCommand.self,
            ServeFaultsCommand.self, StatusCommand.self, PauseCommand.self, RecoverCommand.self,
            AbandonCommand.self, LimitCommand.self, DoctorCommand.self,
        ])

    static func main() {
        Interruption.install()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            end(with: error)
        }
    }

    /// One line for what went wrong, whoever found it; help and completion scripts as they are.
    private static func end(with error: any Error) -> Never {
        let status = exitCode(for: error)
        if let refusal = error as? Refusal {
            ProblemLine.write(refusal.description)
            Glibc.exit(refusal.exitStatus)
        }
        if let ending = error as? ExitCode { Glibc.exit(ending.rawValue) }
        let text = message(for: error)
        if status.isSuccess {
            print(fullMessage(for: error))
            Glibc.exit(0)
        }
        let isUsage = status == .validationFailure
        ProblemLine.write(isUsage ? "\(text); see 'postcopy --help'" : text)
        Glibc.exit(status.rawValue)
    }
}

/// The one line on stderr that a failure ends in.
enum ProblemLine {
    static let prefix = "postcopy: "

    static func write(_ text: String) {
        LiveScreen.clear()
        StandardStream.error.write(line(text) + "\n")
    }

    /// In one line, and fit for a terminal: a file or a peer may have a name that moves the cursor.
    static func line(_ text: String) -> String {
        let oneLine = text.split(whereSeparator: \.isNewline)
            .map { $0.trimmingCharacters(in: .whitespaces) }
            .filter { !$0.isEmpty }
            .joined(separator: " ")
        return prefix + PeerText.plain(oneLine)
    }
}

/// Why the command does not do what it was asked: what, where and the remedy in one line.
struct Refusal: Error, Equatable, CustomStringConvertible {
    let description: String
    let exitStatus: Int32

    /// Options that cannot be, alone or together.
    static func usage(_ text: String) -> Refusal {
        Refusal(description: text, exitStatus: ExitCode.validationFailure.rawValue)
    }

    static let interrupted = Refusal(
        description: "interrupted", exitStatus: Interruption.exitStatus)

    /// This host, or the other side, does not allow it.
    static func environment(_ text: String) -> Refusal {
        Refusal(description: text, exitStatus: ExitCode.failure.rawValue)
    }
}

/// An open standard stream; a reader that has gone is no reason to fail.
enum StandardStream {
    case output
    case error

    func write(_ text: String) {
        let handle = self == .output ? FileHandle.standardOutput : FileHandle.standardError
        try? handle.write(contentsOf: Data(text.utf8))
    }

    /// For what a command is there to say.
    /// - Throws: `Refusal` when the disk or the reader does not take it.
    func print(_ text: String, what: String) throws(Refusal) {
        let handle = self == .output ? FileHandle.standardOutput : FileHandle.standardError
        do { try handle.write(contentsOf: Data(text.utf8)) } catch {
            throw .environment("\(what) was not written: \(PlainReason.of(error))")
        }
    }
}
