import Foundation
import Glibc
import LinuxKernel
import Testing

/// A running migration is asked and steered from other processes.
@Suite(.serialized) struct ControlTests {
    @Test("a run answers for both of its sides, and refuses what cannot be yet")
    func asked() throws {
        try inPlace { place in
            let command = try waitingRun(in: place)
            #expect(place.controlSockets.count == 2, "one for each side")
            let folder = try FileManager.default.attributesOfItem(atPath: place.controlFolder)
            #expect((folder[.posixPermissions] as? NSNumber)?.intValue == 0o700)
            let socket = place.controlFolder + "/\(command.processID).sock"
            let mode = try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions]
            #expect((mode as? NSNumber)?.intValue == 0o600)
            let status = try ask(["status", "--json"], in: place)
            #expect(status.status == 0 && status.number("pid") == Int(command.processID))
            #expect(status.json["side"] as? String == "source")
            let other = try ask(["status", "--json", "--side", "destination"], in: place)
            #expect(other.number("pid") == status.number("destination-pid"), "\(other)")
            let text = try ask(["status", "--pid", "\(command.processID)"], in: place)
            #expect(text.output.contains("active") && text.output.contains("postcopy run"))
            for (line, reason) in [
                ("pause", "has not moved"), ("recover", "is not paused"),
                ("recover tcp:127.0.0.1:1", "is not paused"),
                ("recover tcp:127.0.0.1", "port is missing"), ("recover tpc:a:1", "tpc:a:1"),
                ("abandon", "is not paused"), ("abandon --side destination", "is not paused"),
                ("limit", "nothing to change"), ("limit --max-bandwidth 0", "nothing arrives"),
                ("limit --max-bandwidth 1G --side destination", "the source's"),
                ("limit --downtime-limit 0", "a downtime limit of 0"),
                ("pause --pid 1", "process 1"), ("status --pid 1 --control a", "one of them"),
                ("status --control \(place.path("nothing"))", "no migration listens"),
            ] {
                try expectRefusal(line.split(separator: " ").map(String.init), reason, in: place)
            }
            command.signal(SIGTERM)
            #expect(command.end(within: 20).status == 130)
            #expect(place.controlSockets.isEmpty)
        }
    }

    @Test("limits are changed while it runs, and in force from then on")
    func limited() throws {
        try inPlace { place in
            let command = try waitingRun(["--max-bandwidth", "1"], in: place)
            let told = try ask(["limit", "--max-postcopy-bandwidth", "1GB/s"], in: place)
            #expect(told.status == 0 && told.output.contains("is limited: 1 B/s"), "\(told)")
            // With the first limit the workload would stay for a year.
            let lifted = try ask(["limit", "--max-bandwidth", "none"], in: place)
            #expect(lifted.status == 0 && lifted.output.contains("unlimited"), "\(lifted)")
            let status = try ask(["status"], in: place)
            #expect(status.output.contains("limits"), "\(status)")
            command.signal(SIGUSR1)
            let ended = command.end(within: 60)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
        }
    }

    @Test("where none runs, or several do, it is said which")
    func which() throws {
        try inPlace { place in
            try expectRefusal(["status"], "no migration of this user runs", in: place)
            let receivers = try (0..<2).map { number in
                try RunningCommand(
                    ["receive", "unix:\(place.path("socket\(number)"))", "--memory", "4M"],
                    in: place)
            }
            for receiver in receivers {
                _ = try #require(receiver.line(containing: "listening", within: 10))
            }
            let line = try expectRefusal(["abandon"], "several migrations run", in: place)
            for receiver in receivers { #expect(line.contains("\(receiver.processID) (receive")) }
            let killed = receivers[0].processID
            receivers[0].signal(SIGKILL)
            _ = receivers[0].end(within: 5)
            #expect(place.controlSockets.count == 2, "one is left by who was killed")
            #expect(try ask(["status"], in: place).status == 0, "one is left to be meant")
            try expectRefusal(["status", "--pid", "\(killed)"], "has ended", in: place)
            receivers[1].signal(SIGTERM)
            _ = receivers[1].end(within: 10)
        }
    }

    @Test("visitors who are silent, talk garbage or ask without end change nothing")
    func visitors() throws {
        try inPlace { place in
            let control = place.path("control")
            let command = try waitingRun(["--control", control], in: place)
            var crowd: [Visitor] = []
            for index in 0..<20 {
                let visitor = Visitor(try StreamSocket.connect(to: .unix(path: control)))
                let bytes = [UInt8](repeating: UInt8(index), count: index * 700)
                try? visitor.socket.send(bytes.span)
                crowd.append(visitor)
            }
            let status = try ask(["status", "--control", control], in: place)
            #expect(status.status == 0, "\(status)")
            let other = ["status", "--control", control, "--side", "destination"]
            #expect(try ask(other, in: place).output.contains("postcopy receive"))
            command.signal(SIGUSR1)
            let ended = command.end(within: 60)
            #expect(ended.status == 0, "\(ended)")
            #expect(ended.number("verify", "mismatches") == 0)
            #expect(place.leftovers() == [])
            withExtendedLifetime(crowd) {}
        }
    }

    private final class Visitor {
        let socket: StreamSocket
        init(_ socket: consuming StreamSocket) { self.socket = socket }
    }

    @Test("a socket that was left behind is replaced; a file of another kind is not touched")
    func stale() throws {
        try inPlace { place in
            let (socket, file) = (place.path("control"), place.path("file"))
            let arguments = ["receive", "unix:\(place.path("in"))", "--memory", "4M", "--control"]
            let killed = try RunningCommand(arguments + [socket], in: place)
            _ = try #require(killed.line(containing: "listening", within: 10))
            killed.signal(SIGKILL)
            _ = killed.end(within: 5)
            #expect(place.leftovers(expecting: ["in"]) == ["control"])
            let next = try RunningCommand(arguments + [socket], in: place)
            _ = try #require(next.line(containing: "listening", within: 10))
            #expect(try ask(["status", "--control", socket], in: place).status == 0)
            try expectRefusal(arguments + [socket], "in use", in: place)
            next.signal(SIGTERM)
            _ = next.end(within: 10)
            try Data("mine".utf8).write(to: URL(fileURLWithPath: file))
            try expectRefusal(arguments + [file], "--control", in: place)
            #expect(FileManager.default.contents(atPath: file) == Data("mine".utf8))
            #expect(place.leftovers(expecting: ["file"]) == [])
        }
    }

    @Test(
        "a link that is cut on purpose is reported with what stood between, over either transport",
        arguments: ["tcp", "unix"])
    func cut(transport: String) throws {
        try inPlace { place in
            let command = try RunningCommand(
                [
                    "run", "--memory", "256M", "--warm-up", "50ms", "--no-precopy", "--transport",
                    transport, "--break-after", "30%", "--break-for", "100ms", "--recover", "none",
                    "--max-postcopy-bandwidth", "200MB/s", "--json", "-",
                ], in: place)
            let ended = command.end(within: 60)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.json["status"] as? String == "postcopy-paused")
            #expect((ended.json["cuts"] as? [Any])?.count == 1, "\(ended)")
            let channels = ended.json["channels"] as? [String: Any]
            #expect(channels?["proxy"] as? String != channels?["uri"] as? String)
            let missing = (ended.json["missing"] as? [[String: Any]])?.first
            #expect((missing?["bytes"] as? Int ?? 0) > 100 << 20, "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    /// A run that waits at the source, connected.
    private func waitingRun(
        _ arguments: [String] = [], in place: TestPlace
    ) throws -> RunningCommand {
        let command = try RunningCommand(
            [
                "run", "--memory", "32M", "--run-on", "0",
                "--warm-up", "60s", "--json", "-",
            ] + arguments, in: place)
        _ = try #require(command.line(containing: "active", within: 20))
        return command
    }

    private func ask(
        _ arguments: [String], in place: TestPlace
    ) throws -> RunningCommand.Ended {
        try RunningCommand(arguments, in: place).end(within: 20)
    }

    /// Expects one line that says why, and answers it.
    @discardableResult
    private func expectRefusal(
        _ arguments: [String], _ reason: String, in place: TestPlace
    ) throws -> String {
        let ended = try ask(arguments, in: place)
        #expect(ended.status > 0, "\(arguments): \(ended)")
        #expect(ended.errorLines.count == 1 && ended.output.isEmpty, "\(arguments): \(ended)")
        let line = ended.errorLines.last ?? ""
        #expect(line.contains(reason), "\(arguments): \(ended)")
        return line
    }
}
