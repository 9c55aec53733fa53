import Foundation
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing
import VhostUser

extension RuntimeLaws {
    /// A back-end that we did not write: QEMU's disk in a process of its own, which has libvhost-user.
    @Suite(
        "A disk in another process",
        .enabled(
            if: FileManager.default.isExecutableFile(atPath: storageDaemon),
            "needs qemu-storage-daemon (apt-get install qemu-system-common)"))
    struct StorageDaemonTests {
        private static func content(ofDisk bytes: Int) -> Data {
            Data((0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ $0 >> 9) })
        }

        private static let diskBytes = 4 << 20

        @Test("it says that it takes part in a postcopy, and gives its userfaultfd")
        func offers() throws {
            let process = try DiskProcess(Data(count: 1 << 20))
            var frontend = VhostUserFrontend(try process.connect())
            try frontend.negotiate()
            #expect(frontend.offeredProtocol.contains([.pageFault, .replyAcknowledgement]))
            try frontend.advise()
            try frontend.listen()
            try frontend.end()
        }

        @Test(
            "it reads and writes for a guest whose memory is still coming, over links that break too",
            arguments: [[], [1 << 20, 2 << 20, 1 << 20]], [true, false])
        func serves(breaks: [Int], preempt: Bool) throws {
            var options = testOptions(preempt: preempt)
            options.maxPostcopyBandwidth = 20 << 20
            options.recovery.mode = .automatic
            options.linkLimitNanoseconds = 2_000_000_000
            let content = Self.content(ofDisk: Self.diskBytes)
            let migration = try DiskMigration(content)
            let (sent, received) = try migration.run(
                options,
                breaks: breaks.map {
                    Break(place: .fromSource($0), lastingNanoseconds: 50_000_000)
                })
            #expect(sent.status == .completed, "\(sent.problem ?? "")")
            #expect(received.status == .completed, "\(received.problem ?? "")")
            #expect(received.breaks.count >= breaks.count)
            #expect(
                migration.awaitAnswers(), "\(migration.guest.answered) \(migration.process.said)")
            migration.expectRightData(content)
            let client = try #require(migration.client)
            // Of each request the header, the status and the data's pages are missing, and the ring's.
            #expect(client.faultCount > UInt64(DiskGuest.requestCount))
            #expect(client.strayFaultCount == 0)
            #expect(try migration.end() == DiskGuest.requestCount)
        }
    }
}

private let storageDaemon = "/usr/bin/qemu-storage-daemon"

/// A storage daemon that exports one disk.
private final class DiskProcess: Sendable {
    private let process: ClientProcess

    init(_ content: Data) throws {
        process = try ClientProcess(storageDaemon, files: ["disk": content]) { socket in
            [
                "--blockdev", "driver=file,node-name=disk,filename=disk", "--export",
                "type=vhost-user-blk,id=disk,node-name=disk,writable=on,addr.type=unix,"
                    + "addr.path=\(socket)",
            ]
        }
    }

    var said: [String] { process.said }

    func connect() throws -> StreamSocket { try process.connect() }

    func content() throws -> Data { try process.content(of: "disk") }
}

/// A migration of a `DiskGuest`, whose disk follows it to the destination.
private final class DiskMigration: Sendable {
    let process: DiskProcess
    let guest: DiskGuest
    private let source: DiskGuest
    private let frontend: Mutex<Frontend>
    private let attached = Mutex<SharedClient?>(nil)
    private let kick: EventFlag
    private let call: EventFlag

    /// A place for a value that cannot be copied; empty once the connection is closed.
    private struct Frontend: ~Copyable {
        var value: VhostUserFrontend?
    }

    init(_ content: Data) throws {
        let geometry = try BlockGeometry(
            name: "ram", lengthBytes: 16 << 20, hostPage: HostMemory.pageSize)
        func memory(_ backing: RAMBacking) throws -> GuestRAM {
            try GuestRAM(geometry, backing: backing, guestPhysicalAddress: 1 << 30)
        }
        source = DiskGuest(try memory(.anonymous))
        guest = DiskGuest(try memory(.memfd))
        source.fill()
        process = try DiskProcess(content)
        var frontend = VhostUserFrontend(try process.connect())
        try frontend.negotiate()
        try frontend.advise()
        self.frontend = Mutex(Frontend(value: consume frontend))
        kick = try EventFlag()
        call = try EventFlag()
    }

    var client: SharedClient? { attached.withLock { $0 } }

    func run(
        _ options: MigrationOptions, breaks: [Break]
    ) throws -> (SourceReport, DestinationReport) {
        let receiving = try DestinationSession(guest: guest, options: options)
        guest.whenLoaded { [unowned self] in try shareMemory(with: receiving) }
        // What the vCPU had done before it moved.
        guest.whenResumed { [unowned self] in kick.raise() }
        let sending = try SourceSession(guest: source, options: options)
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let proxy = try BreakingProxy(to: listener.address, plan: breaks)
        let (place, address) = (Handover(listener), proxy.address)
        let receiver = try Bounded("destination") { receiving.run(on: place.take()) }
        let sender = try Bounded("source") { sending.run(to: address) }
        sending.startPostcopy()
        let (sent, received) = (
            sender.output(withinSeconds: 60), receiver.output(withinSeconds: 60)
        )
        if sent == nil || received == nil {
            Issue.record("hangs: \(sending.progress)\n\(receiving.progress)\n\(process.said)")
            sending.abandon()
            receiving.abandon()
        }
        #expect(proxy.stop())
        return (try #require(sent), try #require(received))
    }

    private func shareMemory(with session: DestinationSession) throws {
        let ram = guest.memory[0]
        let base = ram.address.rawValue
        let ring = VhostUserRing(
            size: DiskGuest.ringSize, descriptors: base + DiskGuest.descriptors,
            available: base + DiskGuest.available, used: base + DiskGuest.used)
        try frontend.withLock { frontend throws(VhostUserError) in
            try frontend.value!.listen()
            let client = try frontend.value!.shareMemory([VhostUserMemory(ram)]) {
                client throws(SharedClientError) in try session.attach(client)
            }
            attached.withLock { $0 = client }
            // The disk reads where the ring stands: the first page that it waits for.
            try frontend.value!.startRing(0, ring, kick: kick, call: call)
        }
    }

    /// Waits until every request was answered.
    func awaitAnswers() -> Bool {
        let deadline = Monotonic.now() + 20_000_000_000
        while guest.answered < DiskGuest.requestCount {
            let now = Monotonic.now()
            guard now < deadline, call.wait(timeoutNanoseconds: deadline - now) else {
                return false
            }
            call.clear()
        }
        return true
    }

    /// What was read stands in memory, what was written on the disk, and nothing else has changed.
    func expectRightData(_ content: Data, line: SourceLocation = #_sourceLocation) {
        var disk = content
        for request in 0..<DiskGuest.requestCount {
            let start = DiskGuest.diskOffset(request)
            let place = start..<start + DiskGuest.dataBytes
            let bytes = guest.bytes(at: DiskGuest.data(request), count: DiskGuest.dataBytes)
            let status = guest.bytes(at: DiskGuest.status(request), count: 1)
            #expect(status == [0], sourceLocation: line)
            if DiskGuest.isWrite(request) {
                disk.replaceSubrange(place, with: DiskGuest.content(request))
                let isKept = bytes == DiskGuest.content(request)
                #expect(isKept, "request \(request)", sourceLocation: line)
            } else {
                let isRead = bytes == Array(content[place])
                #expect(isRead, "request \(request)", sourceLocation: line)
            }
        }
        let isWritten = (try? process.content()) == disk
        #expect(isWritten, sourceLocation: line)
    }

    /// Stops the ring and ends the postcopy; answers how far the disk has come in the ring.
    func end() throws -> Int {
        try frontend.withLock { frontend throws(VhostUserError) in
            let base = try frontend.value!.stopRing(0)
            try frontend.value!.end()
            frontend.value = nil
            return Int(base)
        }
    }
}
