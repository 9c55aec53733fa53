import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import TestSupport
import Testing

/// A guest whose devices take their time.
private final class SlowGuest: Guest {
    private let inner: PatternGuest
    private let nanoseconds: UInt64
    private let never: EventFlag

    init(_ inner: PatternGuest, milliseconds: UInt64) throws {
        self.inner = inner
        nanoseconds = milliseconds * 1_000_000
        never = try EventFlag()
    }

    var machineType: String { inner.machineType }
    var memory: [GuestRAM] { inner.memory }
    var vcpuThreads: [Int32] { inner.vcpuThreads }
    var faultOrigin: FaultOrigin { inner.faultOrigin }
    func pause() { inner.pause() }
    func resume() { inner.resume() }
    func saveDevices() -> [UInt8] { inner.saveDevices() }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        _ = never.wait(timeoutNanoseconds: nanoseconds)
        try inner.loadDevices(sections)
    }
}

extension RuntimeLaws.ScriptedSourceTests {
    /// A destination whose devices wait for a page that the script never sends.
    private func loading(_ options: MigrationOptions) throws -> (DestinationUnderTest, SocketBox) {
        let guest = try PatternGuest(
            blocks: SourceScript.blocks, vcpuCount: 1, loadTouches: [[1, 15]])
        guest.expect(only: [])
        let destination = try DestinationUnderTest(guest, options: options, vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.beforePackage + script.package)
        return (destination, main)
    }

    @Test(
        "a stream that ends while the devices wait for a page ends the wait", arguments: [0, 1, 2])
    func endsWhileLoading(way: Int) throws {
        let (destination, main) = try loading(testOptions(silenceMilliseconds: 300))
        main.send(script.end)
        if way == 1 { main.socket.shutDown() }
        if way == 2 { main.socket.shutDownSending() }
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .failed)
        let problem = report.problem ?? ""
        // A close with answers unread breaks the link, if that is the first to be heard.
        let isBroken = way == 1 && problem.contains("the link to the source ")
        #expect(problem.contains("still owes") || isBroken, "\(problem)")
        #expect(!destination.guest.isRunning)
    }

    @Test("a destination is cancelled while its devices wait for a page")
    func cancelledWhileLoading() throws {
        let (destination, main) = try loading(testOptions())
        // The page is asked for once the devices wait for it.
        var reader = RawReader()
        var heard: [UInt8] = []
        while !heard.contains([0, 3, 0, 17]) { heard += reader.readSome(from: main.socket) }
        destination.cancel()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .failed)
        #expect(report.problem == "cancelled")
        #expect(reader.readShut(from: main.socket).suffix(8) == [0, 1, 0, 4, 0, 0, 0, 1])
    }

    @Test("the same page twice in one run is refused")
    func twiceInARow() throws {
        let destination = try destination(testOptions(silenceMilliseconds: 500), vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.beforePackage + script.package)
        var reader = RawReader()
        _ = reader.readCommit(from: main.socket)
        var copy = script
        let twice = copy.section(last: false) { script, bytes in
            for content in [script.content(0, 13), Array(repeating: 0x77, count: 4096)] {
                script.append(0, 13, content: content, to: &bytes)
            }
        }
        main.send(twice)
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .postcopyPaused)
        #expect(report.problem?.contains("came again") == true, "\(report.problem ?? "")")
    }
}

extension RuntimeLaws.BothSidesTests {
    @Test("devices may load for longer than silence may last", arguments: [200, 20_000])
    func loadsSlowly(pages: Int) throws {
        let blocks = [(name: "low", pages: pages, backing: RAMBacking.anonymous)]
        let options = testOptions(silenceMilliseconds: 300)
        let from = try PatternGuest(blocks: blocks)
        from.fill()
        let to = try PatternGuest(blocks: blocks, vcpuCount: 1)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        let place = Handover(listener)
        let receiving = try DestinationSession(
            guest: SlowGuest(to, milliseconds: 1_000), options: options)
        let destination = try Bounded("destination") { receiving.run(on: place.take()) }
        let sending = try SourceSession(guest: from, options: options)
        sending.startPostcopy()
        let source = try Bounded("source") { sending.run(to: address) }
        let (sent, received) = (try #require(source.output()), try #require(destination.output()))
        #expect(sent.status == .completed, "\(sent.problem ?? "")")
        #expect(received.status == .completed, "\(received.problem ?? "")")
        #expect(to.wrongWords() == 0)
    }
}
