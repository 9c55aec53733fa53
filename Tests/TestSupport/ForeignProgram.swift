public import Foundation

/// A program that tests in another language bring along.
public enum ForeignProgram {
    /// Runs it to its end, and answers its exit status and all that it said.
    ///
    /// - Parameter secondsMax: it is ended after so long.
    public static func run(
        _ program: URL, _ arguments: [String], secondsMax: Int
    ) async throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/timeout")
        process.arguments = ["--kill-after=20", "\(secondsMax)", program.path] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        process.standardInput = FileHandle.nullDevice
        try process.run()
        let (handle, runs) = (output.fileHandleForReading, HandedOver(process))
        // On a thread of its own: there are as many others as cores, and other tests need them.
        return await withCheckedContinuation { ended in
            Thread.detachNewThread {
                let text = String(decoding: handle.readDataToEndOfFile(), as: UTF8.self)
                runs.process.waitUntilExit()
                ended.resume(returning: (runs.process.terminationStatus, text))
            }
        }
    }

    /// A process that one thread started and another waits for.
    private final class HandedOver: @unchecked Sendable {
        // SAFETY: the first does not touch it any more.
        let process: Process

        init(_ process: Process) { self.process = process }
    }
}
