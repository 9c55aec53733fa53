import Foundation
import Glibc
import LinuxKernel
import Synchronization

/// What a process says, line by line.
private final class Hearing: @unchecked Sendable {
    // SAFETY: everything is used under `condition`.
    private let condition = NSCondition()
    private var lines: [String] = []
    private var isOpen = true

    func collect(_ end: FileHandle) {
        var rest = ""
        while case let data = end.availableData, !data.isEmpty {
            rest += String(decoding: data, as: UTF8.self)
            var parts = rest.components(separatedBy: "\n")
            rest = parts.removeLast()
            note(parts)
        }
        condition.lock()
        isOpen = false
        condition.broadcast()
        condition.unlock()
    }

    private func note(_ more: [String]) {
        condition.lock()
        lines += more
        condition.broadcast()
        condition.unlock()
    }

    var said: [String] {
        condition.lock()
        defer { condition.unlock() }
        return lines
    }

    /// Whether a line that begins like this comes before the time or the program ends.
    func hears(_ beginning: String, withinSeconds seconds: Double) -> Bool {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        defer { condition.unlock() }
        while true {
            if lines.contains(where: { $0.hasPrefix(beginning) }) { return true }
            if !isOpen || !condition.wait(until: limit) { return false }
        }
    }

    /// Whether the program ends in time.
    func ends(withinSeconds seconds: Double) -> Bool {
        let limit = Date(timeIntervalSinceNow: seconds)
        condition.lock()
        defer { condition.unlock() }
        while isOpen, condition.wait(until: limit) {}
        return !isOpen
    }
}

/// A program that shares the guest's memory, in a process of its own, its lines heard as they come. It is
/// killed with this value.
final class ClientProcess: @unchecked Sendable {
    // SAFETY: all of it is constant after `init`; `Process` is asked for its end by one thread.
    private let process = Process()
    private let hearing = Hearing()
    private let folder: URL
    let socketPath: String

    /// Starts a program whose arguments are made from the path of the socket that it is to listen on.
    /// - Parameter files: written into the folder of the socket first.
    init(
        _ program: String, files: [String: Data] = [:], _ arguments: (_ socket: String) -> [String]
    ) throws {
        folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-client-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        socketPath = folder.appendingPathComponent("socket").path
        for (name, content) in files {
            try content.write(to: folder.appendingPathComponent(name))
        }
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments(socketPath)
        process.currentDirectoryURL = folder
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let end = output.fileHandleForReading
        Thread.detachNewThread { [hearing] in hearing.collect(end) }
    }

    deinit {
        if process.isRunning { kill(SIGKILL) }
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: folder)
    }

    /// The program of this package that has no device.
    convenience init(seed: UInt64, threadCount: Int, _ options: String...) throws {
        let path = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent("SharedClientProgram").path
        try self.init(path) { [$0, "\(seed)", "\(threadCount)"] + options }
        guard hears("listening") else { throw Silent(lines: said) }
    }

    struct Silent: Error {
        let lines: [String]
    }

    var said: [String] { hearing.said }

    func content(of file: String) throws -> Data {
        try Data(contentsOf: folder.appendingPathComponent(file))
    }

    /// Whether a line that begins like this comes before the time or the program ends.
    func hears(_ beginning: String, withinSeconds seconds: Double = 30) -> Bool {
        hearing.hears(beginning, withinSeconds: seconds)
    }

    /// Connects to its socket once that is there.
    func connect(withinSeconds seconds: UInt64 = 20) throws -> StreamSocket {
        let deadline = Monotonic.now() + seconds * 1_000_000_000
        while true {
            do { return try StreamSocket.connect(to: .unix(path: socketPath)) } catch {
                guard Monotonic.now() < deadline, process.isRunning else { throw error }
                sched_yield()
            }
        }
    }

    func kill(_ signal: Int32) { _ = Glibc.kill(process.processIdentifier, signal) }

    /// Waits for its end; the exit status, the negated signal that ended it, or `nil` when it lives on.
    func status(withinSeconds seconds: Double = 20) -> Int32? {
        guard hearing.ends(withinSeconds: seconds) else { return nil }
        process.waitUntilExit()
        let status = process.terminationStatus
        return process.terminationReason == .uncaughtSignal ? -status : status
    }
}
