import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Testing

extension RuntimeLaws.ScriptedSourceTests {
    static func record(
        _ word: UInt64, name: String?, payload: [UInt8] = []
    ) -> [UInt8] {
        var bytes: [UInt8] = [2, 0, 0, 0, 1]
        for shift in (0..<8).reversed() {
            bytes.append(UInt8(truncatingIfNeeded: word >> UInt64(shift * 8)))
        }
        if let name { bytes += [UInt8(name.utf8.count)] + Array(name.utf8) }
        return bytes + payload
    }

    static let late: [Refused] = [
        .late("DISCARD while running", "DISCARD") { _ in commands(oneDiscard) },
        .late("ADVISE while running", "ADVISE") { _ in commands(advise) },
        .late("a second package", "LISTEN") { _ in SourceScript.package([1, 2, 3]) },
        .late("LISTEN while running", "outside a package") { _ in commands(.postcopyListen) },
        .late("unknown section byte", "0x55") { _ in [0x55] },
        .late("unknown block", "'middle'") { _ in record(8, name: "middle") },
        .late("offset outside its block", "65536") { _ in
            record(65536 | 8, name: "low", payload: Array(repeating: 1, count: 4096))
        },
        .late("flags that make no sense", "flags") { _ in record(0x48, name: "low") },
        .late("block list in postcopy", "list") { _ in record(0x4000 | 4, name: "low") },
        .late("zero page filled with ones", "1") { _ in record(0x2002, name: "low", payload: [1]) },
        .late("a page that was not discarded", "offset 0 of block 'low' came again") { _ in
            record(8, name: "low", payload: Array(repeating: 1, count: 4096))
        },
        .late("a zero page received before", "offset 4096 of block 'low' came again") { _ in
            record(4096 | 8, name: "low", payload: Array(repeating: 1, count: 4096))
        },
        .late("a page for the second time", "came again") { $0.postcopy + $0.postcopy },
        .late("the end of the stream twice", "") { $0.end + $0.end + [0] },
    ]

    @Test("what comes behind the package pauses with its reason", arguments: late)
    func late(_ refused: Refused) throws {
        var script = script
        let destination = try destination(testOptions(silenceMilliseconds: 300), vcpus: true)
        let main = try StreamSocket.connect(to: destination.address)
        try main.send((script.beforePackage + script.package).span)
        var reader = RawReader()
        _ = reader.readCommit(from: main)
        try main.send(refused.make(&script).span)
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .postcopyPaused)
        #expect(report.guestRunsHere)
        #expect(destination.guest.isRunning)
        #expect(!report.missing.isEmpty)
        let problem = try #require(report.problem)
        #expect(problem.contains(refused.problem), "\(problem)")
    }

    @Test("an end while pages are missing does not complete")
    func incompleteEnd() throws {
        let destination = try destination(testOptions(silenceMilliseconds: 200), vcpus: true)
        let main = try StreamSocket.connect(to: destination.address)
        try main.send((script.beforePackage + script.package + script.end).span)
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .postcopyPaused)
        #expect(report.missing.map(\.hostPages) == [6, 12])
        #expect(report.problem?.contains("still owes 18 pages") == true)
    }

    @Test("a source that floods with PINGs and takes no PONG is refused")
    func pingFlood() throws {
        let destination = try destination(testOptions(silenceMilliseconds: 500))
        let main = try StreamSocket.connect(to: destination.address)
        main.limitWaits(nanoseconds: 5_000_000_000)
        try? main.send((script.head + Self.commands(.openReturnPath)).span)
        let flood = Array(repeating: Self.commands(.ping(9)), count: 10_000).flatMap { $0 }
        for _ in 0..<200 {
            do { try main.send(flood.span) } catch { break }
        }
        let report = try #require(destination.report(withinSeconds: 10))
        #expect(report.status == .failed)
        #expect(report.problem != nil)
    }

    @Test("strangers who say nothing, or leave at once, keep no source out")
    func silentStrangers() throws {
        let destination = try destination(testOptions(silenceMilliseconds: 200))
        var strangers: [SocketBox] = []
        for _ in 0..<12 {
            strangers.append(SocketBox(try StreamSocket.connect(to: destination.address)))
        }
        try strangers[3].socket.send([0x51, 0x45].span)
        let main = try StreamSocket.connect(to: destination.address)
        try main.send(script.head.span)
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.problem?.contains("the source kept silent") == true)
    }

    @Test(
        "silence ends the wait, wherever it begins",
        arguments: ["head", "setup", "precopy", "package", "postcopy"])
    func silence(after place: String) throws {
        let parts = [
            ("head", script.head), ("setup", script.setup),
            ("precopy", script.precopy + script.discards), ("package", script.package),
            ("postcopy", script.postcopy),
        ]
        let count = try #require(parts.firstIndex { $0.0 == place })
        let bytes = parts[...count].flatMap(\.1)
        let destination = try destination(testOptions(silenceMilliseconds: 200), vcpus: true)
        let main = try StreamSocket.connect(to: destination.address)
        try main.send(bytes.span)
        let start = Monotonic.now()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(Monotonic.now() - start < 3_000_000_000)
        #expect(report.status == (count < 3 ? .failed : .postcopyPaused))
        #expect(report.problem?.contains("silent") == true, "\(report.problem ?? "")")
        #expect(report.guestRunsHere == destination.guest.isRunning)
    }
}
