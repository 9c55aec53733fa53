import Foundation
import Glibc
import LinuxKernel
import Testing

/// One clear line, a status that is not 0, nothing hanging and nothing left behind.
@Suite(.serialized) struct BadInputTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let arguments: [String]
        /// Parts of the line: what is wrong, and what would do.
        let says: [String]
        var testDescription: String { arguments.joined(separator: " ") }

        init(_ arguments: String, _ says: String...) {
            self.arguments = arguments.split(separator: " ").map(String.init)
            self.says = says
        }
    }

    @Test(
        "an option that cannot be is refused by name, with the remedy",
        arguments: [
            Case("run --memory 0", "--memory", "zero", "at least one page"),
            Case("run --memory 4097", "--memory 4097", "multiple", "4096 or 8192"),
            Case("run --memory 1", "multiple", "give 4096"),
            Case("run --memory -5M", "-5M", "negative", "256M"),
            Case("run --memory 99999999999999999999", "too large"),
            Case("run --memory 18446744073709551615G", "too large"),
            Case("run --memory 20000G", "at most 16.0 TiB"),
            Case("run --memory 8T", "available", "give at most"),
            Case("run --memory 5Q", "unit 'Q'", "256M"),
            Case("run --memory much", "much", "no number"),
            Case("run --pattern walk", "walk", "sequential", "idle"),
            Case("run --fill ones", "ones", "random", "mixed"),
            Case("run --backing disk", "disk", "anonymous", "hugetlb"),
            Case("run --transport udp", "udp", "tcp", "unix"),
            Case("run --vcpus 0", "vcpus 0", "1 to 64"),
            Case("run --vcpus -1", "vcpus -1", "1 to 64"),
            Case("run --vcpus 65", "vcpus 65", "1 to 64"),
            Case("run --vcpus two", "two", "--vcpus"),
            Case("run --write-fraction 1.5", "write-fraction 1.5", "0.0 to 1.0"),
            Case("run --write-fraction nan", "write-fraction", "0.0 to 1.0"),
            Case("run --hot-set 512M", "hot-set", "at most the memory"),
            Case("run --hot-set 5000", "hot-set", "multiple"),
            Case("run --hot-set 0", "hot-set 0", "one page per vCPU"),
            Case("run --rate -1", "-1", "--rate"),
            Case("run --rate 2000000000", "rate 2000000000", "0 for as fast as possible"),
            Case("run --warm-up 5", "no unit", "500ms"),
            Case("run --warm-up 90000000m", "over a day"),
            Case("run --downtime-limit 0", "downtime limit of 0", "300 ms"),
            Case("run --downtime-limit 525600m", "over a day"),
            Case("run --switch-after 3", "no unit", "500ms"),
            Case("run --switch-after-rounds 0", "0 rounds", "1 round"),
            Case("run --switch-after 0", "0 s", "without one"),
            Case("run --switch-after-rounds -1", "--switch-after-rounds", "'-1'", "1 or more"),
            Case("run --auto-converge --throttle-initial 20%", "'20%'", "1 to 99"),
            Case("run --no-precopy --switch-after 1s", "--switch-after", "--no-precopy"),
            Case("run --throttle-max 50", "--auto-converge"),
            Case("run --auto-converge --throttle-initial 0", "throttle", "1 to 99"),
            Case("run --auto-converge --throttle-max 100", "throttle of 100 %", "99 %"),
            Case("run --max-bandwidth 0", "--max-bandwidth", "0"),
            Case("run --max-bandwidth 99999999999999999999", "too large"),
            Case("send tcp:127.0.0.1:1 --max-postcopy-bandwidth 0", "--max-postcopy-bandwidth"),
            Case("run --silence-limit 1ms", "--silence-limit", "100ms"),
            Case("run --page-size 2M", "--page-size", "--backing hugetlb"),
            Case("run --page-size 4K --backing hugetlb", "--page-size", "2M or 1G"),
            Case("run --backing hugetlb --memory 3M", "multiple", "2097152 or 4194304"),
            Case("run --backing hugetlb --memory 8T", "huge pages", "nr_hugepages"),
            Case("run --memory 4K", "--memory 4096", "2 vCPUs", "--memory 8192", "fewer --vcpus"),
            Case("run --json /nowhere/report.json", "no folder /nowhere;", "another path"),
            Case("run --json /dev/null/report.json", "/dev/null is no folder;", "another path"),
            Case("run --json /tmp", "/tmp", "folder"),
            Case("run --link-limit 1ms", "--link-limit", "20ms"),
            Case("run --recover never", "never", "none by-hand auto"),
            Case("run --recover none --recover-for 1s", "--recover-for", "--recover none"),
            Case("send tcp:a:1 --recover none --address tcp:b:1", "--address", "--recover none"),
            Case("send tcp:a:1 --address tcp:b:0", "port 0"),
            Case("run --break-for 2s", "--break-after"),
            Case("run --release-ram --recover auto", "--release-ram", "--recover auto"),
            Case("send unix:/a --release-ram --recover by-hand", "--recover by-hand"),
            Case("run --break-after 100%", "100%", "such as 30%"),
            Case("run --break-after 30% --break-times 0", "--break-times 0", "1000"),
            Case("run --control /nowhere/a", "--control", "/nowhere/a"),
            Case("run --nonsense", "--nonsense"),
            Case("send nowhere", "nowhere", "tcp:HOST:PORT"),
            Case("send tcp:127.0.0.1:0", "port 0"),
            Case("send", "<uri>"),
            Case("receive tcp:127.0.0.1", "port is missing"),
            Case("receive tcp:127.0.0.1:70000", "65535"),
            Case("receive unix:/nowhere/socket", "/nowhere/socket", "No such file"),
            Case("serve-faults /nowhere/s", "--memory-file", "--park", "--from"),
            Case("serve-faults s --memory-file a --park b", "exclude", "give one"),
            Case("serve-faults s --memory-file /nowhere/a", "/nowhere/a", "No such file"),
            Case("serve-faults s --memory-file /tmp", "/tmp", "no regular file"),
            Case("serve-faults s --park /nowhere/a", "/nowhere/a"),
            Case("serve-faults /nowhere/s --memory-file /proc/self/exe", "/nowhere/s"),
            Case("serve-faults s --memory-file a --devices b", "--devices", "--from"),
            Case("serve-faults s --memory-file a --again", "--again", "--park"),
            Case("serve-faults s --memory-file a --workers 0", "--workers 0", "1 to 64"),
            Case("serve-faults s --memory-file a --clients -1", "--clients -1", "1 to"),
            Case("serve-faults s --memory-file a --clients 2 --record b", "--record", "one client"),
            Case("serve-faults s --park a --clients 2", "--clients", "--memory-file"),
            Case("serve-faults s --from tcp:127.0.0.1:1 --clients 0", "--clients", "--memory-file"),
            Case("serve-faults s --memory-file a --record /nowhere/b", "--record", "/nowhere"),
            Case(
                "serve-faults s --memory-file a --prefetch /nowhere/b", "--prefetch", "/nowhere/b"),
            Case("serve-faults s --from unix:/nowhere/a --devices /nowhere/b", "--devices"),
            Case("frobnicate", "frobnicate"),
        ])
    func refusal(_ bad: Case) throws {
        try inPlace { place in
            let command = try RunningCommand(bad.arguments, in: place)
            let ended = command.end(within: 10)
            #expect(ended.status > 0, "\(ended)")
            #expect(ended.errorLines.count == 1, "\(ended)")
            #expect(ended.output.isEmpty, "\(ended)")
            for part in bad.says {
                #expect(ended.errorLines.joined().contains(part), "\(part) in \(ended)")
            }
            #expect(place.leftovers() == [])
        }
    }

    @Test("a port in use is named, with the way out")
    func portInUse() throws {
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let uri = "\(listener.address)"
        let line = try onlyLine(["receive", uri, "--memory", "4M"])
        #expect(line.contains(uri) && line.contains("in use") && line.contains("port 0"))
    }

    @Test("a refused connection is named, with the way out, and no verification is awaited")
    func refusedConnection() throws {
        let uri = try freeAddress()
        let line = try onlyLine(["send", uri, "--memory", "4M", "--quiet"])
        #expect(line.contains(uri) && line.contains("refused"))
        #expect(line.contains("postcopy receive"))
    }

    @Test("a pipe that nobody reads is refused, and no report is lost in it")
    func pipeWithoutReader() throws {
        try inPlace { place in
            let made = unsafe mkfifo(place.path("pipe"), 0o600)
            #expect(made == 0)
            let command = try RunningCommand(
                ["run", "--memory", "4M", "--json", place.path("pipe")], in: place)
            let ended = command.end(within: 10)
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.errorLines.count == 1, "\(ended)")
            #expect(ended.errorLines.last?.contains("nobody reads it") == true, "\(ended)")
            #expect(place.leftovers(expecting: ["pipe"]) == [])
        }
    }

    @Test("a host that does not exist is named")
    func unknownHost() throws {
        let line = try onlyLine([
            "send", "tcp:no-such-host.invalid:4444", "--memory", "4M", "--quiet",
        ])
        #expect(!line.isEmpty)
    }

    @Test("a peer that is silent is given up at the limit", arguments: ["send", "receive"])
    func silence(_ half: String) throws {
        try inPlace { place in
            let limit = ["--silence-limit", "500ms", "--memory", "4M", "--quiet"]
            let ended: RunningCommand.Ended
            if half == "send" {
                let listener = try Listener(at: .unix(path: place.path("socket")))
                let command = try RunningCommand(
                    ["send", "\(listener.address)"] + limit, in: place)
                ended = command.end(within: 10)
            } else {
                let uri = "unix:\(place.path("socket"))"
                let command = try RunningCommand(
                    ["receive", uri] + limit.dropLast(), in: place)
                _ = try #require(command.line(containing: "listening", within: 10))
                // One that says nothing at all is nobody, and keeps no source out.
                let stranger = try StreamSocket.connect(to: ChannelAddress(parsing: uri))
                let head: [UInt8] = [0x51, 0x45, 0x56, 0x4d]
                try stranger.send(head.span)
                ended = command.end(within: 10)
                stranger.shutDown()
            }
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.seconds < 5, "\(ended)")
            #expect(ended.errorLines.last?.hasPrefix("postcopy: failed") == true, "\(ended)")
        }
    }

    @Test("a peer that speaks something else is refused")
    func garbage() throws {
        try inPlace { place in
            let uri = "unix:\(place.path("socket"))"
            let command = try RunningCommand(
                ["receive", uri, "--memory", "4M", "--silence-limit", "2s"], in: place)
            _ = try #require(command.line(containing: "listening", within: 10))
            let stranger = try StreamSocket.connect(to: ChannelAddress(parsing: uri))
            try stranger.send(Array("GET / HTTP/1.1\r\nHost: here\r\n\r\n".utf8).span)
            let ended = command.end(within: 10)
            stranger.shutDown()
            #expect(ended.status == 1, "\(ended)")
            #expect(ended.errorLines.last?.hasPrefix("postcopy: failed") == true, "\(ended)")
            #expect(place.leftovers() == [])
        }
    }

    @Test("sides of different memory refuse each other, and the workload stays")
    func differentMemory() throws {
        try inPlace { place in
            let uri = "unix:\(place.path("socket"))"
            let receiver = try RunningCommand(["receive", uri, "--memory", "8M"], in: place)
            _ = try #require(receiver.line(containing: "listening", within: 10))
            let sender = try RunningCommand(
                ["send", uri, "--memory", "4M", "--warm-up", "10s", "--json", "-"], in: place)
            let (sent, received) = (sender.end(within: 20), receiver.end(within: 20))
            #expect(sent.status == 1 && received.status == 1, "\(sent)\(received)")
            #expect(sent.number("verify", "mismatches") == 0, "\(sent)")
            #expect(received.errorLines.last?.contains("workload.ram") == true, "\(received)")
        }
    }

    private func onlyLine(_ arguments: [String]) throws -> String {
        try inPlace { place in
            let ended = try RunningCommand(arguments, in: place).end(within: 15)
            #expect(ended.status > 0, "\(ended)")
            #expect(ended.errorLines.count == 1, "\(ended)")
            #expect(place.leftovers() == [])
            return ended.errorLines.joined(separator: "\n")
        }
    }

    /// An address at which nobody listens any more.
    private func freeAddress() throws -> String {
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        return "\(listener.address)"
    }
}
