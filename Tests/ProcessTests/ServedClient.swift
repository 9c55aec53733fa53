import Foundation
import TestSupport
import Testing

/// A `serve-faults` over a file of known content, and clients of it.
struct ServingPlace {
    static let seed: UInt64 = 7
    let place: TestPlace

    var socket: String { place.path("socket") }
    var file: String { place.path("memory") }

    /// - Parameter fileBytes: the length of the memory file; `nil` for none.
    init(_ place: TestPlace, fileBytes: UInt64? = 16 << 20) throws {
        self.place = place
        guard let fileBytes else { return }
        try ServedContent(seed: Self.seed).write(to: file, lengthBytes: fileBytes)
    }

    /// The command, once it listens.
    func serve(_ arguments: String...) throws -> RunningCommand {
        let command = try RunningCommand(
            ["serve-faults", socket, "--memory-file", file, "--json", "-"] + arguments, in: place)
        _ = try #require(command.line(containing: "serving", within: 20))
        return command
    }

    func client(
        _ regions: [String], _ arguments: String..., input: FileHandle = .nullDevice
    ) throws -> RunningCommand {
        let shapes = regions.flatMap { ["--region", $0] }
        return try RunningCommand(
            [socket, "--seed", "\(Self.seed)"] + shapes + arguments, in: place, input: input,
            program: RunningCommand.built("FirecrackerClient"))
    }
}

/// Keeps a client at its half until it is let on.
struct Hold {
    private let pipe = Pipe()
    var input: FileHandle { pipe.fileHandleForReading }

    /// A word and not only the end: another process that was started meanwhile may hold the pipe open.
    func end() {
        try? pipe.fileHandleForWriting.write(contentsOf: Data("go\n".utf8))
        try? pipe.fileHandleForWriting.close()
    }
}

/// What a client says at its end: "verified 5 of the content, 4 of zeros, 3 written, 0 wrong, ...".
struct ClientVerdict: Equatable {
    let content: Int
    let zeros: Int
    let own: Int
    let wrong: Int

    init?(_ ended: RunningCommand.Ended) {
        guard let line = ended.errorLines.last(where: { $0.hasPrefix("verified") }) else {
            return nil
        }
        let numbers = line.split { !$0.isNumber }.compactMap { Int($0) }
        guard numbers.count >= 4 else { return nil }
        (content, zeros, own, wrong) = (numbers[0], numbers[1], numbers[2], numbers[3])
    }
}
