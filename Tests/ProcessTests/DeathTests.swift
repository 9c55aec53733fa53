import Foundation
import Glibc
import Testing

/// Either process dies, or is told to stop, before the guest moves and after.
@Suite(.serialized) struct DeathTests {
    /// The other side must say so within a second; verifying what stayed comes on top.
    private static let noticeSecondsMax = 1.0

    private struct Pair {
        let sender: RunningCommand
        let receiver: RunningCommand
    }

    @Test("a destination killed before the switch leaves the workload running and right")
    func destinationBefore() throws {
        try inPlace { place in
            let pair = try pair("64M", warmUp: "60s", in: place)
            _ = try #require(pair.sender.line(containing: "active", within: 10))
            let killedAt = Date()
            pair.receiver.signal(SIGKILL)
            _ = try #require(pair.sender.line(containing: "runs on at the source", within: 10))
            #expect(Date().timeIntervalSince(killedAt) < Self.noticeSecondsMax)
            let ended = pair.sender.end(within: 20)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.json["status"] as? String == "failed")
            #expect(ended.json["error-desc"] is String)
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(ended.number("verify", "pages") == 16384)
            #expect(ended.errorLines.last?.contains("ran on at the source") == true)
            _ = pair.receiver.end(within: 5)
        }
    }

    @Test("a source killed before the switch ends the destination, which has no guest")
    func sourceBefore() throws {
        try inPlace { place in
            let pair = try pair("64M", warmUp: "60s", in: place)
            _ = try #require(pair.receiver.line(containing: "active", within: 10))
            let ended = ended(pair.receiver, killing: pair.sender)
            #expect(ended.errorLines.last?.hasPrefix("postcopy: failed: ") == true, "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    @Test("a destination killed after the switch: the source says what only it still has")
    func destinationAfter() throws {
        try inPlace { place in
            let pair = try pair("512M", warmUp: "50ms", in: place)
            _ = try #require(pair.sender.line(containing: "postcopy-active", within: 20))
            let ended = ended(pair.sender, killing: pair.receiver)
            #expect(ended.json["status"] as? String == "postcopy-paused", "\(ended)")
            #expect(ended.errorLines.last?.contains("only here") == true, "\(ended)")
        }
    }

    @Test("a source killed after the switch: the destination says what is missing")
    func sourceAfter() throws {
        try inPlace { place in
            let pair = try pair("512M", warmUp: "50ms", in: place)
            _ = try #require(pair.receiver.line(containing: "postcopy-active", within: 20))
            let ended = ended(pair.receiver, killing: pair.sender)
            #expect(ended.json["status"] as? String == "postcopy-paused", "\(ended)")
            let line = ended.errorLines.last ?? ""
            #expect(line.contains("'workload.ram' misses"), "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    @Test(
        "a run that is told to stop before the switch cancels, verifies and clears up",
        arguments: [SIGINT, SIGTERM])
    func interruption(_ signal: Int32) throws {
        try inPlace { place in
            let command = try startedRun(in: place)
            command.signal(signal)
            let ended = command.end(within: 10)
            #expect(ended.status == 130, "\(ended)")
            #expect(ended.json["status"] as? String == "cancelled", "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(place.leftovers() == [])
        }
    }

    @Test("a run that is killed takes its destination and its folder with it")
    func killedRun() throws {
        try inPlace { place in
            let command = try startedRun(in: place)
            command.signal(SIGKILL)
            #expect(command.end(within: 10).status == -SIGKILL)
            #expect(try place.leftovers(within: 5) == [])
        }
    }

    @Test("a run whose destination is killed names the signal")
    func killedChild() throws {
        try inPlace { place in
            let command = try startedRun(in: place)
            let line = try #require(command.line(containing: "destination is process", within: 5))
            let child = try #require(
                line.split(separator: " ").compactMap { Int32($0) }.first)
            #expect(kill(child, SIGKILL) == 0)
            let ended = command.end(within: 10)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.errorLines.last?.contains("signal 9") == true, "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(place.leftovers() == [])
        }
    }

    /// How `side` ended, which must notice in time that its `peer` was killed and call it a failure.
    private func ended(
        _ side: RunningCommand, killing peer: RunningCommand
    ) -> RunningCommand.Ended {
        peer.signal(SIGKILL)
        let killedAt = Date()
        let ended = side.end(within: 10)
        #expect(Date().timeIntervalSince(killedAt) < Self.noticeSecondsMax, "\(ended)")
        #expect(ended.status == 1, "\(ended)")
        _ = peer.end(within: 5)
        return ended
    }

    /// A run that waits at the source, connected.
    private func startedRun(in place: TestPlace) throws -> RunningCommand {
        let command = try RunningCommand(
            [
                "run", "--memory", "64M", "--warm-up", "60s", "--transport", "unix", "--json",
                "-",
            ], in: place)
        _ = try #require(command.line(containing: "active", within: 10))
        return command
    }

    private func pair(
        _ memory: String, warmUp: String, in place: TestPlace
    ) throws -> Pair {
        let uri = "unix:\(place.path("socket"))"
        // What one side says when it is left alone, and nobody waits for the other.
        let common = [uri, "--memory", memory, "--recover", "none", "--json", "-"]
        let receiver = try RunningCommand(["receive"] + common, in: place)
        _ = try #require(receiver.line(containing: "listening", within: 10))
        let sender = try RunningCommand(
            ["send"] + common + ["--warm-up", warmUp, "--no-precopy"], in: place)
        return Pair(sender: sender, receiver: receiver)
    }
}
