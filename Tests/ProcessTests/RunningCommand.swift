import Foundation
import Glibc

/// The command under test in a process of its own, its lines heard as they come.
final class RunningCommand: @unchecked Sendable {
    // SAFETY: `lines`, `output` and `openStreams` are used under `condition`; the rest is constant
    // after `init`.
    private let process = Process()
    private let condition = NSCondition()
    private var lines: [String] = []
    private var output = Data()
    private var openStreams = 2
    private let startedAt = Date()

    /// How it ended.
    struct Ended: CustomStringConvertible {
        /// The exit status; the negated signal when one ended it.
        let status: Int32
        let output: String
        let errorLines: [String]
        let seconds: Double

        var json: [String: Any] {
            (try? JSONSerialization.jsonObject(with: Data(output.utf8))) as? [String: Any] ?? [:]
        }

        /// A value by its path of keys.
        func number(_ path: String...) -> Int? {
            var value: Any? = json
            for key in path { value = (value as? [String: Any])?[key] }
            return value as? Int
        }

        var description: String {
            "status \(status) after \(seconds) s\n\(errorLines.joined(separator: "\n"))\n\(output)"
        }
    }

    var processID: Int32 { process.processIdentifier }

    /// Whether it may still write.
    var isOpen: Bool {
        condition.lock()
        defer { condition.unlock() }
        return openStreams > 0
    }

    /// The program beside the test bundle, or the one that `POSTCOPY_PROGRAM` names.
    static let program: URL = {
        if let path = ProcessInfo.processInfo.environment["POSTCOPY_PROGRAM"] {
            return URL(fileURLWithPath: path)
        }
        return built("postcopy")
    }()

    /// A program that was built together with the tests.
    static func built(_ name: String) -> URL {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent(name)
    }

    /// - Parameters:
    ///   - input: what it reads on standard input.
    ///   - network: where its sockets are.
    ///   - program: what is run, if not the command.
    init(
        _ arguments: [String], in place: TestPlace, input: FileHandle = .nullDevice,
        network: TestNetwork? = nil, program: URL = RunningCommand.program
    ) throws {
        let (output, errors) = (Pipe(), Pipe())
        let whole = [program.path] + arguments
        // It becomes the program, so that the process is the same one.
        let command = network.map { $0.prefix + whole } ?? whole
        process.executableURL = URL(fileURLWithPath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = ProcessInfo.processInfo.environment.merging(place.environment) {
            $1
        }
        process.standardInput = input
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let (outputEnd, errorEnd) = (output.fileHandleForReading, errors.fileHandleForReading)
        Thread.detachNewThread { [self] in
            collect(outputEnd) { data in self.output += data }
        }
        Thread.detachNewThread { [self] in
            var rest = ""
            collect(errorEnd) { data in
                rest += String(decoding: data, as: UTF8.self)
                var parts = rest.components(separatedBy: "\n")
                rest = parts.removeLast()
                self.lines += parts
            }
        }
    }

    /// Waits for a line on standard error; `nil` when the time or the process ends first.
    func line(containing text: String, within seconds: Double) -> String? {
        line(containingAny: [text], within: seconds)
    }

    func line(containingAny texts: [String], within seconds: Double) -> String? {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if let line = lines.first(where: { line in texts.contains { line.contains($0) } }) {
                return line
            }
            if openStreams == 0 || !condition.wait(until: limit) { return nil }
        }
    }

    /// Waits until so many lines on standard error hold `text`; answers `false` when the time or the
    /// process ends first.
    func hears(_ count: Int, linesContaining text: String, within seconds: Double) -> Bool {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        defer { condition.unlock() }
        while lines.count(where: { $0.contains(text) }) < count {
            if openStreams == 0 || !condition.wait(until: limit) { return false }
        }
        return true
    }

    /// Waits for the end; a process that is late is killed, and that shows as its status.
    func end(within seconds: Double) -> Ended {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        while openStreams > 0 {
            if !condition.wait(until: limit) {
                condition.unlock()
                signal(SIGKILL)
                condition.lock()
                _ = condition.wait(until: Date(timeIntervalSinceNow: 5))
                break
            }
        }
        let (lines, output) = (lines, output)
        condition.unlock()
        process.waitUntilExit()
        let status = process.terminationStatus
        return Ended(
            status: process.terminationReason == .uncaughtSignal ? -status : status,
            output: String(decoding: output, as: UTF8.self), errorLines: lines,
            seconds: Date().timeIntervalSince(startedAt))
    }

    /// Signals the process, which is ours and not yet waited for.
    func signal(_ number: Int32) {
        if process.isRunning { _ = Glibc.kill(process.processIdentifier, number) }
    }

    private func collect(_ handle: FileHandle, _ take: (Data) -> Void) {
        while true {
            let data = handle.availableData
            condition.lock()
            if data.isEmpty { openStreams -= 1 } else { take(data) }
            condition.broadcast()
            condition.unlock()
            if data.isEmpty { return }
        }
    }
}
