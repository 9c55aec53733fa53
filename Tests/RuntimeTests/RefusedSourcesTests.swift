import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import TestSupport
import Testing

extension RuntimeLaws.ScriptedSourceTests {
    /// The start of a section that another part of a QEMU sends beside the memory.
    private static func start(_ name: String) -> [UInt8] {
        [1, 0, 0, 0, 9, UInt8(name.utf8.count)] + Array(name.utf8) + [0, 0, 0, 0, 0, 0, 0, 1]
    }

    private static func withPages(_ flags: UInt64, _ option: String) -> Refused {
        .early("\(option) pages", "turn off \(option) at the source") {
            $0.head + $0.setup + record(flags, name: "low")
        }
    }

    /// What a QEMU source has on that cannot be taken: each refusal says what to switch off.
    static let options: [Refused] = [
        withPages(0x40, "xbzrle"), withPages(0x100, "compress"), withPages(0x200, "multifd"),
        .early("a multifd channel first", "the source has multifd on") { _ in multifdHello },
        .early("disks", "'block', expected 'ram': migrate without copying disks") {
            $0.head + commands(.openReturnPath, advise) + start("block")
        },
        .early("dirty bitmaps first", "'dirty-bitmap', expected 'ram': turn off dirty-bitmaps") {
            $0.head + commands(.openReturnPath, advise) + start("dirty-bitmap")
        },
        .early("dirty bitmaps behind the memory", "'dirty-bitmap', expected 'ram': turn off") {
            $0.head + $0.setup + start("dirty-bitmap")
        },
        .early("a device that sends early", "'0000:00:05.0/vfio', expected 'ram': remove the") {
            $0.head + $0.setup + start("0000:00:05.0/vfio")
        },
    ]

    /// Magic, version 1, a UUID, the channel's number, and what is reserved.
    static let multifdHello: [UInt8] =
        [0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1] + Array(repeating: 7, count: 16)
        + Array(repeating: 0, count: 40)

    @Test("a source with multifd on is told so before the switch", arguments: [0, 1, 2])
    func multifd(when: Int) throws {
        let destination = try destination()
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        var reader = RawReader()
        if when > 0 { main.send(script.head + script.setup) }
        if when > 0 { _ = reader.read(8, from: main.socket) }
        if when > 1 { main.send(script.precopy + script.discards) }
        let others = try (0..<2).map { _ in
            SocketBox(try StreamSocket.connect(to: destination.address))
        }
        for other in others { other.send(Self.multifdHello) }
        let answers = reader.readShut(from: main.socket)
        main.socket.shutDownSending()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .failed)
        #expect(!report.guestRunsHere && !destination.guest.isRunning)
        let problem = report.problem ?? ""
        #expect(problem.contains("the source has multifd on"), "\(problem)")
        #expect(problem.contains("migrate_set_capability multifd off"), "\(problem)")
        // Before the return path is open nothing may be said.
        #expect(answers == (when > 0 ? [0, 1, 0, 4, 0, 0, 0, 1] : []))
    }

    @Test("who speaks multifd behind the switch is a stranger")
    func lateMultifd() throws {
        let destination = try destination(vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.beforePackage + script.package)
        var reader = RawReader()
        _ = reader.readCommit(from: main.socket)
        let stranger = SocketBox(try StreamSocket.connect(to: destination.address))
        stranger.send(Self.multifdHello)
        var strangerReader = RawReader()
        #expect(strangerReader.readAll(from: stranger.socket) == [])
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        urgent.send(script.urgent)
        main.send(script.postcopy + script.end)
        _ = reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .completed, "\(report.problem ?? "")")
        #expect(destination.guest.wrongWords() == 0)
    }

    @Test("a second migration into the same port is closed, and the first goes on")
    func secondMigration() throws {
        let destination = try destination(vcpus: true)
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(script.head + script.setup)
        var reader = RawReader()
        _ = reader.read(8, from: main.socket)
        for preempt in [true, false] {
            let guest = try sparseGuest()
            guest.resume()
            let second = try SourceSession(guest: guest, options: testOptions(preempt: preempt))
            let address = destination.address
            let run = try Bounded("second source") { second.run(to: address) }
            second.startPostcopy()
            let report = try #require(run.output(withinSeconds: 5))
            #expect(report.status == .failed)
            #expect(report.guestRunsHere && guest.isRunning)
            #expect(report.problem != nil)
        }
        main.send(script.precopy + script.discards + script.package)
        _ = reader.readCommit(from: main.socket)
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        urgent.send(script.urgent)
        main.send(script.postcopy + script.end)
        _ = reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        let report = try #require(destination.report(withinSeconds: 5))
        #expect(report.status == .completed, "\(report.problem ?? "")")
        #expect(report.progress.otherMigrations == 2)
        #expect(destination.guest.wrongWords() == 0)
    }
}
