import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing
import VhostUser

extension RuntimeLaws {
    /// Another process has the guest's memory mapped, and faults in it while it is coming.
    @Suite("A process that shares the guest's memory")
    struct SharedClientTests {
        private static let page = HostMemory.pageSize

        /// Slow enough that the client meets most pages before they come by themselves.
        private static func options(preempt: Bool = true) -> MigrationOptions {
            var options = testOptions(preempt: preempt)
            options.maxPostcopyBandwidth = 16 << 20
            return options
        }

        private static let blocks: [SharedClientRig.Block] = [
            (lengthBytes: 12 << 20, hostPage: page), (lengthBytes: 4 << 20, hostPage: page),
        ]

        @Test("it finds every page right, and what it writes stays", arguments: [true, false])
        func pages(preempt: Bool) throws {
            let rig = try SharedClientRig(
                Self.blocks, options: Self.options(preempt: preempt))
            try rig.expectCompleted(try rig.start())
            let client = try #require(rig.client)
            #expect(client.faultCount > 50)
            #expect(client.strayFaultCount == 0 && !client.hasFailed)
            #expect(throws: SharedClientError.alreadyAttached) { try rig.session.attach(client) }
        }

        @Test("alone, without a vCPU that faults beside it")
        func alone() throws {
            let rig = try SharedClientRig(Self.blocks, options: Self.options(), vcpuCount: 0)
            try rig.expectCompleted(try rig.start())
            let client = try #require(rig.client)
            #expect(client.faultCount > 50)
        }

        @Test("a precopy has brought a part, zero pages that were never made among it")
        func precopy() throws {
            var options = Self.options()
            options.precopy = PrecopyOptions()
            options.maxBandwidth = 20 << 20
            let rig = try SharedClientRig(Self.blocks, options: options)
            let running = try rig.start(startsPostcopy: false)
            let hasSentSome = eventually {
                let progress = rig.sending.progress
                return progress.normalPages + progress.zeroPages > 1_000
            }
            #expect(hasSentSome)
            rig.sending.startPostcopy()
            try rig.expectCompleted(running)
            #expect(try #require(rig.client).faultCount > 50)
        }

        @Test("a precopy has brought all of it, and nobody waits for anything")
        func precopyAlone() throws {
            var options = Self.options()
            options.precopy = PrecopyOptions()
            let rig = try SharedClientRig(Self.blocks, options: options)
            try rig.expectCompleted(try rig.start(startsPostcopy: false))
        }

        @Test(
            "huge pages of a file",
            .enabled(if: HugePagePool.canHold(12), "needs 12 free huge pages of 2 MiB"))
        func huge() throws {
            let pool = HugePagePool(reserving: 12)
            defer { pool.release() }
            let folder = try HugeFolder()
            let rig = try SharedClientRig(
                [(lengthBytes: 24 << 20, hostPage: .size2MiB)], options: Self.options(),
                make: { geometry, address in
                    try GuestRAM(
                        geometry, sharing: folder.file(bytes: geometry.lengthBytes),
                        guestPhysicalAddress: address)
                })
            try rig.expectCompleted(try rig.start())
            #expect(try #require(rig.client).faultCount > 0)
        }

        @Test("small pages that stand in for a source's huge ones")
        func largerHostPages() throws {
            let rig = try SharedClientRig(
                [(lengthBytes: 24 << 20, hostPage: .size2MiB)], options: Self.options(),
                make: { geometry, address in
                    try GuestRAM(
                        geometry, backing: .memfd, guestPhysicalAddress: address,
                        allowsLargerHostPages: true)
                })
            try rig.expectCompleted(try rig.start())
            #expect(try #require(rig.client).faultCount > 0)
        }

        @Test("several regions of one block, one part of it in two and one in none")
        func regions() throws {
            let pieces: [(offset: UInt64, length: UInt64)] = [
                (0, 2 << 20), (8 << 20, 4 << 20), (9 << 20, 1 << 20), (4 << 20, 1 << 20),
            ]
            let rig = try SharedClientRig(
                Self.blocks, options: Self.options(),
                regions: { memory in
                    pieces.map { piece in
                        VhostUserMemory(
                            guestPhysicalAddress: memory[0].guestPhysicalAddress + piece.offset,
                            memory: memory[0], offset: RAMOffset(rawValue: piece.offset),
                            lengthBytes: piece.length)
                    }
                })
            try rig.expectCompleted(try rig.start(), marked: false)
            let marked = rig.destination.judge().marked
            #expect(marked == (7 << 20) >> 12)
        }

        @Test("the link breaks while it waits, and comes back", arguments: [true, false])
        func recovery(preempt: Bool) throws {
            var options = Self.options(preempt: preempt)
            options.recovery.mode = .automatic
            options.linkLimitNanoseconds = 2_000_000_000
            let breaks = [1 << 20, 3 << 20, 2 << 20].map {
                Break(place: .fromSource($0), lastingNanoseconds: 100_000_000)
            }
            let rig = try SharedClientRig(Self.blocks, options: options, breaks: breaks)
            try rig.expectCompleted(try rig.start())
            #expect(rig.proxy.events.count == breaks.count)
            #expect(try #require(rig.client).faultCount > 50)
        }

        @Test("it is killed while it waits, and the migration goes on")
        func killed() throws {
            let rig = try SharedClientRig(Self.blocks, options: Self.options())
            let running = try rig.start()
            #expect(eventually { rig.client.map { $0.faultCount > 50 } ?? false })
            rig.process.kill(SIGKILL)
            #expect(rig.process.status() == -SIGKILL)
            let client = try #require(rig.client)
            #expect(rig.session.detach(client))
            #expect(!rig.session.detach(client))
            let (sent, received) = try rig.finish(running)
            #expect(sent.status == .completed && received.status == .completed)
            #expect(rig.destination.wrongReads() == 0)
            #expect(rig.destination.judge().wrong == 0)
            #expect(throws: VhostUserError.closed(.postcopyEnd)) {
                try rig.withFrontend { frontend throws(VhostUserError) in try frontend.end() }
            }
        }

        @Test("its pages are lost for good: it gets the memory error that a vCPU gets")
        func abandoned() throws {
            var options = Self.options()
            options.recovery.mode = .byHand
            let rig = try SharedClientRig(Self.blocks, options: options, vcpuCount: 0)
            let running = try rig.start()
            #expect(eventually { rig.client.map { $0.faultCount > 50 } ?? false })
            rig.proxy.breakLink(lastingNanoseconds: 60_000_000_000)
            #expect(eventually { rig.session.progress.status == .postcopyPaused })
            #expect(rig.process.said.filter { $0.hasPrefix("all") } == [])
            #expect(rig.session.abandon())
            #expect(eventually { rig.sending.abandon() || rig.sending.progress.status == .failed })
            let (_, received) = try rig.finish(running)
            #expect(received.isAbandoned)
            #expect(rig.destination.lost.load(ordering: .relaxed) > 0)
            #expect(rig.process.status() == -SIGBUS, "\(rig.process.said)")
            let client = try #require(rig.client)
            #expect(throws: SharedClientError.alreadyAttached) { try rig.session.attach(client) }
        }

        @Test("a fault beside its table is counted, and holds up nobody but itself")
        func stray() throws {
            let rig = try SharedClientRig(
                Self.blocks, options: Self.options(), clientOptions: ["stray"])
            let running = try rig.start()
            let (sent, received) = try rig.finish(running)
            #expect(sent.status == .completed && received.status == .completed)
            #expect(rig.process.hears("all pages right"), "\(rig.process.said)")
            let client = try #require(rig.client)
            #expect(client.strayFaultCount == 1)
            #expect(!rig.process.said.contains { $0.hasPrefix("went on") })
        }
    }
}

/// A mounted hugetlbfs, gone with this value.
struct HugeFolder: ~Copyable {
    private let path: String

    init() throws {
        path = "/tmp/postcopy-huge-\(getpid())-\(UInt32.random(in: 0...(.max)))"
        try #require(unsafe mkdir(path, 0o700) == 0)
        try #require(unsafe mount("none", path, "hugetlbfs", 0, nil) == 0)
    }

    deinit {
        _ = unsafe umount(path)
        _ = unsafe rmdir(path)
    }

    /// A file of so many zero bytes; it lives as long as somebody maps it.
    func file(bytes: UInt64) throws -> String {
        let name = path + "/ram"
        let raw = unsafe open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        defer { close(raw) }
        try #require(ftruncate(raw, off_t(bytes)) == 0)
        return name
    }
}
