import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Testing

extension RuntimeLaws.ScriptedSourceTests {
    /// A destination with both channels open that has the guest.
    private func running(
        _ body: (DestinationUnderTest, SocketBox, SocketBox) throws -> Void
    ) throws -> DestinationReport {
        let destination = try destination(testOptions(silenceMilliseconds: 500), vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.head)
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(Array((script.beforePackage + script.package).dropFirst(script.head.count)))
        var reader = RawReader()
        _ = reader.readCommit(from: main.socket)
        try body(destination, main, urgent)
        return try #require(destination.report(withinSeconds: 5))
    }

    @Test("an urgent channel that is closed early pauses")
    func urgentClosed() throws {
        let report = try running { _, _, urgent in
            urgent.send(script.urgent.dropLast(8))
            urgent.socket.shutDownSending()
        }
        #expect(report.status == .postcopyPaused)
        #expect(report.problem?.contains("closed the urgent channel") == true)
    }

    @Test("garbage on the urgent channel pauses")
    func urgentGarbage() throws {
        let report = try running { _, _, urgent in
            urgent.send(script.urgent.dropLast(8) + Array("GET / HTTP/1.1\r\n".utf8))
        }
        #expect(report.status == .postcopyPaused)
        #expect(report.problem?.contains("the urgent channel: ") == true)
    }

    @Test("a third connection changes nothing")
    func thirdConnection() throws {
        let report = try running { destination, main, urgent in
            let stranger = try? StreamSocket.connect(to: destination.address)
            main.send(script.postcopy + script.end)
            urgent.send(script.urgent)
            _ = stranger
        }
        #expect(report.status == .completed, "\(report.problem ?? "")")
    }

    @Test("strangers who connect change nothing, whatever they say", arguments: [false, true])
    func strangers(beforePackage: Bool) throws {
        let destination = try destination(vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        let start = script.head + script.setup
        main.send(start)
        var reader = RawReader()
        _ = reader.read(8, from: main.socket)
        var strangers: [SocketBox] = []
        func knock() throws {
            strangers = try (0..<3).map { _ in
                SocketBox(try StreamSocket.connect(to: destination.address))
            }
            strangers[0].send(Array("GET / HTTP/1.1\r\n".utf8))
            strangers[1].socket.shutDown()
        }
        if beforePackage { try knock() }
        main.send(Array(script.main.dropFirst(start.count)))
        _ = reader.readCommit(from: main.socket)
        if !beforePackage { try knock() }
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        urgent.send(script.urgent)
        _ = reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .completed, "\(report.problem ?? "")")
        #expect(destination.guest.wrongWords() == 0)
    }

    @Test("devices that wait for a page when the link goes do not hold the end up")
    func linkLostWhileLoading() throws {
        let guest = try PatternGuest(
            blocks: SourceScript.blocks, vcpuCount: 1, loadTouches: [[1, 15]])
        guest.expect(only: [])
        let destination = try DestinationUnderTest(guest, vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.beforePackage + script.package)
        var reader = RawReader()
        var answers: [UInt8] = []
        // The request for the page that loading needs.
        while !answers.contains([4] + Array("high".utf8)) {
            let more = reader.readSome(from: main.socket)
            if more.isEmpty { break }
            answers += more
        }
        main.socket.shutDown()
        let report = try #require(destination.report(withinSeconds: 2))
        #expect(report.status == .failed)
        #expect(!guest.isRunning)
    }

    @Test(
        "half a huge page and then another is refused",
        .enabled(if: HugePagePool.canHold(4), "needs 4 free huge pages of 2 MiB"))
    func halfHugePage() throws {
        let pool = HugePagePool(reserving: 4)
        defer { pool.release() }
        let guest = try PatternGuest(
            blocks: [(name: "huge", pages: 2, backing: .hugetlb)], vcpuCount: 1)
        let geometries = guest.memory.map(\.geometry)
        var bytes = Self.opening(guest.machineType, geometries)
        bytes += SourceScript.package([1, 2, 3])
        StreamEncoder.appendSectionResumed(id: 1, last: false, to: &bytes)
        var encoder = RAMRecordEncoder(blocks: geometries)
        for offset in [0, 4096, 0x200000] as [UInt64] {
            encoder.appendZeroPage(
                block: BlockIndex(rawValue: 0), offset: RAMOffset(rawValue: offset), to: &bytes)
        }
        let destination = try DestinationUnderTest(guest, vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(bytes)
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .postcopyPaused || report.status == .failed)
        #expect(report.problem?.contains("is unfinished") == true, "\(report.problem ?? "")")
        #expect(report.missing.map(\.hostPages) == [2])
    }

    @Test("a huge page that comes slower than silence may last comes, and so it is waited for")
    func slowHugePage() throws {
        let guest = try PatternGuest(
            memory: guestMemory([(name: "huge", pages: 1, backing: .hugetlb)], hugeIn: .anonymous),
            vcpuCount: 1)
        guest.expect(only: [])
        let geometries = guest.memory.map(\.geometry)
        let destination = try DestinationUnderTest(
            guest, options: testOptions(silenceMilliseconds: 1_000), vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(Self.opening(guest.machineType, geometries) + SourceScript.package([1, 2, 3]))
        var reader = RawReader()
        _ = reader.readCommit(from: main.socket)
        var end: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: 1, last: true, to: &end)
        StreamEncoder.appendSectionEnd(id: 1, to: &end)
        StreamEncoder.appendEndOfStream(to: &end)
        main.send(end)
        var encoder = RAMRecordEncoder(blocks: geometries)
        let never = try EventFlag()
        // Three times as long as silence may last, in pieces of 200 ms.
        for piece in 0..<16 {
            var bytes: [UInt8] = []
            for page in piece * 32..<(piece + 1) * 32 {
                encoder.appendZeroPage(
                    block: BlockIndex(rawValue: 0), offset: RAMOffset(rawValue: UInt64(page) << 12),
                    to: &bytes)
            }
            urgent.send(bytes)
            _ = never.wait(timeoutNanoseconds: 200_000_000)
        }
        _ = reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        let report = try #require(destination.report())
        #expect(report.status == .completed, "\(report.problem ?? "")")
        #expect(report.breaks.isEmpty)
    }

    /// Up to the package, of a guest that had sent nothing by then.
    private static func opening(_ machineType: String, _ blocks: [BlockGeometry]) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: machineType, to: &bytes)
        bytes += SourceScript.commands(
            [.openReturnPath, .postcopyAdvise(pageSizeSummary: 0x200000, targetPageBytes: 4096)],
            blocks)
        StreamEncoder.appendSectionStart(id: 1, to: &bytes)
        StreamEncoder.appendBlockList(blocks.listed, to: &bytes)
        StreamEncoder.appendSectionEnd(id: 1, to: &bytes)
        return bytes
    }
}
