import Foundation
import Testing

/// A line of shell, as a user of the library types it, outside of the repository.
struct Shell {
    let folder: URL

    /// How it ended, with what it wrote to either stream.
    struct Ended: CustomStringConvertible {
        let status: Int32
        let output: String
        var description: String { "status \(status)\n\(output)" }
    }

    /// Runs `line` and everything it starts, for so many seconds at most.
    /// - Parameter environment: all that it has, besides the path and the language.
    func run(
        _ line: String, withinSeconds seconds: Int = 120, _ environment: [String: String] = [:]
    ) throws -> Ended {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["-k", "5", "\(seconds)", "bash", "-ec", line]
        process.currentDirectoryURL = folder
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        process.environment = ["PATH": path, "LC_ALL": "C"].merging(environment) { $1 }
        let output = Pipe()
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return Ended(
            status: process.terminationStatus, output: String(decoding: data, as: UTF8.self))
    }
}
