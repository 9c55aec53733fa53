import Foundation
import Glibc
import LinuxKernel
import PageModel
import Parking
import StreamWire
import TestSupport
import Testing

/// Pages of a machine: parked in a folder, or on its way from another host.
@Suite(.serialized) struct ServeMachineTests {
    private static let mebibyte: UInt64 = 1 << 20
    /// The second huge page of the content has parts of two blocks.
    private static let blocks: [(name: String, lengthBytes: UInt64)] = [
        ("pc.bios", 256 << 10), ("pc.ram", 11 * mebibyte), ("vga.vram", 768 << 10),
    ]
    private static let totalBytes = blocks.reduce(0) { $0 + $1.lengthBytes }
    private static let devices = Array("\u{4}devices, opaque".utf8) + [0, 255, 10, 13]
    private static let whole = "anonymous:\(totalBytes):0"

    /// A machine whose blocks, one behind the other, are the known content.
    private static func park(at path: String) throws {
        let machine = try ParkedMachine(
            describedBy: StreamIntroduction(
                machineType: "pc-q35-7.2", configuration: [], pageSizeSummary: nil, ramSection: 2,
                blocks: blocks.map {
                    StreamIntroduction.Block(
                        name: $0.name, usedBytes: $0.lengthBytes, hostPage: .target)
                }), origin: "a test")
        let content = ServedContent(seed: ServingPlace.seed)
        var start: UInt64 = 0
        for ram in machine.memory {
            for offset in stride(from: 0, to: ram.usedBytes, by: 8) {
                let word = content.word(at: start + offset)
                if word != 0 { ram.storeWord(word, at: offset) }
            }
            start += ram.usedBytes
        }
        try machine.loadDevices(devices)
        try ParkDirectory.reserve(path, bytesNeeded: 0).commit(machine)
    }

    @Test("a parked machine is served by its blocks in their order, and handed on once")
    func parked() throws {
        try #require(HugePagePool.isOurs, "the test needs root for huge pages")
        try HugePagePool.raised(by: 4) {
            try inPlace { place in
                let serving = try ServingPlace(place, fileBytes: nil)
                try Self.park(at: place.path("guest"))
                let arguments = ["serve-faults", serving.socket, "--park", place.path("guest")]
                let command = try RunningCommand(arguments + ["--json", "-"], in: place)
                _ = try #require(command.line(containing: "serving", within: 20))
                let client = try serving.client(
                    [
                        "huge:\(8 * Self.mebibyte):0",
                        "anonymous:\(4 * Self.mebibyte):\(8 * Self.mebibyte)",
                    ], "--balloon", "30")
                let (left, served) = (client.end(within: 60), command.end(within: 20))
                #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
                #expect(served.status == 0, "\(served)")
                let second = try RunningCommand(arguments, in: place).end(within: 10)
                #expect(second.status == 1, "\(second)")
                #expect(second.errorLines.last?.contains("--again") == true, "\(second)")
                #expect(place.leftovers(expecting: ["guest"]) == [])
            }
        }
    }

    @Test("a machine is served while it still comes, and its devices are kept")
    func live() throws {
        try inPlace { place in
            let (serving, command, sender) = try Self.arrival(in: place, "--fill")
            let client = try serving.client([Self.whole], "--balloon", "50")
            let left = client.end(within: 60)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            let served = command.end(within: 30)
            let sent = sender.end(within: 30)
            #expect(served.status == 0, "\(served)")
            let ending = (served.json["clients"] as? [[String: Any]])?.first?["ending"] as? String
            #expect(ending == "gone" || ending == "has-everything", "\(served)")
            #expect(served.number("arrival", "requests") ?? 0 > 0, "\(served)")
            #expect(sent.status == 0 || ending == "gone", "\(sent)")
            let kept = try Data(contentsOf: URL(fileURLWithPath: place.path("devices")))
            #expect(Array(kept) == Self.devices)
            #expect(place.leftovers(expecting: ["guest", "devices"]) == [])
        }
    }

    @Test("a client that holds out until the machine has come needs nobody any more")
    func liveFilled() throws {
        try inPlace { place in
            let (serving, command, sender) = try Self.arrival(in: place, "--fill")
            let hold = Hold()
            let client = try serving.client([Self.whole], "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 30))
            #expect(sender.end(within: 40).status == 0)
            let served = command.end(within: 30)
            #expect(served.status == 0, "\(served)")
            let figures = (served.json["clients"] as? [[String: Any]])?.first
            #expect(figures?["ending"] as? String == "has-everything", "\(served)")
            #expect(served.json.isEmpty == false)
            hold.end()
            let left = client.end(within: 30)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
        }
    }

    @Test("a machine that has moved waits for its client, whoever knocks or interrupts before")
    func movedWithoutClient() throws {
        try inPlace { place in
            let (serving, command, sender) = try Self.arrival(in: place, "--fill")
            let stranger = try StreamSocket.connect(to: .unix(path: serving.socket))
            try stranger.send(Array("hello".utf8).span)
            _ = try #require(command.line(containing: "refused", within: 10))
            _ = try #require(command.line(containing: "has left its source", within: 20))
            command.signal(SIGINT)
            _ = try #require(command.line(containing: "to lose the machine", within: 10))
            let client = try serving.client([Self.whole])
            let left = client.end(within: 60)
            #expect(left.status == 0 && ClientVerdict(left)?.wrong == 0, "\(left)")
            let served = command.end(within: 30)
            #expect(served.status == 0, "\(served)")
            _ = sender.end(within: 30)
            _ = consume stranger
        }
    }

    @Test("a machine that has moved is lost when that was asked for twice")
    func lostOnDemand() throws {
        try inPlace { place in
            let (_, command, sender) = try Self.arrival(in: place)
            _ = try #require(command.line(containing: "has left its source", within: 20))
            command.signal(SIGINT)
            _ = try #require(command.line(containing: "to lose the machine", within: 10))
            #expect(command.isOpen)
            command.signal(SIGINT)
            let served = command.end(within: 20)
            #expect(served.status == 130, "\(served)")
            #expect(served.errorLines.last?.contains("no client came") == true, "\(served)")
            sender.signal(SIGKILL)
            _ = sender.end(within: 10)
        }
    }

    @Test("a source that is gone for good is an error for whoever touches its pages")
    func sourceKilled() throws {
        try inPlace { place in
            // Slow enough that pages are missing when half of them were touched.
            let (serving, command, sender) = try Self.arrival(in: place, bandwidth: "200kB/s")
            let hold = Hold()
            let client = try serving.client([Self.whole], "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 30))
            sender.signal(SIGKILL)
            _ = sender.end(within: 10)
            _ = try #require(command.line(containing: "abandon", within: 20))
            hold.end()
            let abandon = try RunningCommand(
                ["abandon", "--pid", "\(command.processID)"], in: place
            ).end(within: 20)
            #expect(abandon.status == 0, "\(abandon)")
            let (served, left) = (command.end(within: 20), client.end(within: 20))
            #expect(left.status == -SIGBUS, "\(left)\(served)")
            #expect(served.status == 1, "\(served)")
            #expect(served.json["status"] as? String == "failed", "\(served)")
            #expect(place.leftovers(expecting: ["guest", "devices"]) == [])
        }
    }

    @Test("who interrupts it twice leaves the client with an error where pages are missing")
    func interruptedTwice() throws {
        try inPlace { place in
            // Slow enough that pages are missing when half of them were touched.
            let (serving, command, sender) = try Self.arrival(in: place, bandwidth: "200kB/s")
            let hold = Hold()
            let client = try serving.client([Self.whole], "--hold", input: hold.input)
            _ = try #require(client.line(containing: "holding", within: 30))
            sender.signal(SIGKILL)
            _ = sender.end(within: 10)
            _ = try #require(command.line(containing: "abandon", within: 20))
            command.signal(SIGINT)
            _ = try #require(command.line(containing: "interrupt again", within: 10))
            command.signal(SIGINT)
            let served = command.end(within: 20)
            #expect(served.status == 130, "\(served)")
            #expect(served.json["status"] as? String == "interrupted", "\(served)")
            hold.end()
            #expect(client.end(within: 20).status == -SIGBUS)
            #expect(place.leftovers(expecting: ["guest", "devices"]) == [])
        }
    }

    @Test("a machine whose client has ended before it moved stays where it is")
    func clientKilledEarly() throws {
        try inPlace { place in
            let serving = try ServingPlace(place, fileBytes: nil)
            let uri = "unix:\(place.path("stream"))"
            let command = try RunningCommand(
                ["serve-faults", serving.socket, "--from", uri, "--json", "-"], in: place)
            _ = try #require(command.line(containing: "listening on", within: 20))
            let sender = try RunningCommand(
                [
                    "send", uri, "--memory", "8M", "--warm-up", "30s", "--no-precopy", "--json",
                    "-",
                ], in: place)
            _ = try #require(command.line(containing: "serving", within: 20))
            let client = try serving.client(["anonymous:\(Self.mebibyte):0"])
            _ = try #require(client.line(containing: "handed over", within: 20))
            client.signal(SIGKILL)
            _ = client.end(within: 10)
            let (served, sent) = (command.end(within: 20), sender.end(within: 20))
            #expect(served.status == 1, "\(served)")
            #expect(sent.status == 1, "\(sent)")
            #expect(sent.number("verify", "mismatches") == 0, "\(sent)")
            #expect(sent.errorLines.last?.contains("ran on at the source") == true, "\(sent)")
        }
    }

    /// A parked machine on its way to the command, which serves what comes.
    private static func arrival(
        in place: TestPlace, _ arguments: String..., bandwidth: String = "6MB/s"
    ) throws -> (ServingPlace, RunningCommand, RunningCommand) {
        let serving = try ServingPlace(place, fileBytes: nil)
        try park(at: place.path("guest"))
        let uri = "unix:\(place.path("stream"))"
        let command = try RunningCommand(
            [
                "serve-faults", serving.socket, "--from", uri, "--devices",
                place.path("devices"), "--json", "-",
            ] + arguments, in: place)
        _ = try #require(command.line(containing: "listening on", within: 20))
        let sender = try RunningCommand(
            [
                "send", uri, "--from-park", place.path("guest"), "--no-precopy",
                "--max-postcopy-bandwidth", bandwidth, "--json", "-",
            ], in: place)
        _ = try #require(command.line(containing: "serving", within: 20))
        return (serving, command, sender)
    }
}
