import Foundation
import Glibc
import Testing

/// The destination of a `run` dies or stops while nothing is asked of it.
@Suite(.serialized) struct ChildDeathTests {
    @Test("a run whose destination dies while memory is filled ends at once and names the signal")
    func whileFilling() throws {
        try inPlace { place in
            let command = try RunningCommand(
                ["run", "--memory", "2G", "--fill", "text"], in: place)
            let child = try destination(of: command)
            _ = try #require(command.line(containing: "filling", within: 10))
            let killedAt = Date()
            #expect(kill(child, SIGKILL) == 0)
            let ended = command.end(within: 20)
            #expect(Date().timeIntervalSince(killedAt) < 1, "\(ended)")
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.errorLines.last?.contains("signal 9") == true, "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    private func destination(of command: RunningCommand) throws -> Int32 {
        let line = try #require(command.line(containing: "destination is process", within: 10))
        return try #require(line.split(separator: " ").compactMap { Int32($0) }.first)
    }
}
