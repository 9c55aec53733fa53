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

    @Test("a source says at once why its workload stays, quiet or not")
    func whileWarming() throws {
        try inPlace { place in
            let uri = "unix:\(place.path("socket"))"
            let receiver = try RunningCommand(["receive", uri, "--memory", "64M"], in: place)
            _ = try #require(receiver.line(containing: "listening", within: 10))
            let command = try RunningCommand(
                [
                    "send", uri, "--memory", "64M", "--warm-up", "60s", "--run-on", "30s",
                    "--quiet",
                ], in: place)
            _ = try #require(receiver.line(containing: "active", within: 10))
            let killedAt = Date()
            receiver.signal(SIGKILL)
            let line = try #require(command.line(containing: "runs on", within: 10))
            #expect(Date().timeIntervalSince(killedAt) < 1)
            #expect(line.hasPrefix("postcopy: the "), "\(line)")
            command.signal(SIGTERM)
            _ = (command.end(within: 10), receiver.end(within: 5))
            // Who is killed cannot remove its socket; the next who listens there replaces it.
            #expect(place.leftovers() == ["socket"])
        }
    }

    @Test("a run whose destination stops after the last page gives it up and says so")
    func whileVerifying() throws {
        try inPlace { place in
            let command = try RunningCommand(
                [
                    "run", "--memory", "16M", "--warm-up", "0", "--run-on", "1s",
                    "--silence-limit", "100ms",
                ], in: place)
            let child = try destination(of: command)
            _ = try #require(command.line(containing: "every page is here", within: 10))
            #expect(kill(child, SIGSTOP) == 0)
            let ended = command.end(within: 20)
            #expect(ended.status == 1, "\(ended)")
            let line = ended.errorLines.last ?? ""
            #expect(line.contains("said nothing") && line.contains("killed"), "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    private func destination(of command: RunningCommand) throws -> Int32 {
        let line = try #require(command.line(containing: "destination is process", within: 10))
        return try #require(line.split(separator: " ").compactMap { Int32($0) }.first)
    }
}
