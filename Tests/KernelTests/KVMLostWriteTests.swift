import Glibc
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

/// A guest writes at full speed while its pages are sent as a precopy sends them. Now and then it is
/// stopped and the rest is sent: a page that differs then from what was sent is a lost write.
@Suite(
    "KVM's dirty log loses no write", .serialized,
    .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
struct KVMLostWriteTests {
    /// A lost write shows only when its page is not written again before the guest is stopped. The
    /// sweep writes a page twice in short order, the second time while it is perhaps being sent, and
    /// comes back after all others.
    enum Writer: CaseIterable { case sweep, scatter }
    enum Sender { case betweenSyncs, onItsOwnThread }

    /// 64 chunks of 256 KiB, and as many pages as `scatter` draws from.
    private static let pageCount = 4096
    /// How far behind the sweep writes for the second time: less than a sender takes at once.
    private static let echoPages: UInt64 = 16
    /// Defects showed in the first ten rounds; more are played while there is time.
    private static let rounds = 20...2_000
    private static let nanosecondsMax: UInt64 = 1_000_000_000

    /// A new log says that all pages were written, so a clearing takes long enough to be met: without
    /// the lock one round in forty lost the write.
    @Test("whoever finds its chunk being cleared waits for that")
    func clearedTogether() throws {
        let guest = try FlatGuest(pages: 16_384)
        let last = guest.pageCount - 1
        let log = try KVMDirtyLog(
            machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
            slots: guest.slots)
        let dirty = DirtyBitmap(block: guest.ram.geometry, allDirty: false)
        let start = Monotonic.now()
        for round in 0..<200 where round < 20 || Monotonic.now() - start < Self.nanosecondsMax {
            try log.start()
            try #require(log.sync(FlatGuest.block, into: dirty) == guest.pageCount)
            dirty.remove(0..<guest.pageCount)
            let isWaiting = Flag()
            let first = try JoinableThread(name: "clear") {
                isWaiting.lower()
                try? log.clear(FlatGuest.block, 0..<1)
            }
            while isWaiting.isRaised {}
            for _ in 0..<round % 20 { _ = Monotonic.now() }
            let outcome = Result {
                try log.clear(FlatGuest.block, last..<last + 1)
                try guest.write([last])
            }
            first.join()
            try outcome.get()
            _ = try log.sync(FlatGuest.block, into: dirty)
            #expect(dirty.takeRun(from: 0, countMax: 1) == last..<last + 1, "round \(round)")
            log.stop()
        }
    }

    private static func load(_ writer: Writer, into guest: FlatGuest) throws {
        switch writer {
        case .sweep:
            let distance = echoPages * PageSize.target.bytes
            try guest.load(
                GuestProgram.sweep,
                [
                    .rbx: FlatGuest.base + distance, .rdx: UInt64(pageCount) - echoPages,
                    .rbp: PageSize.target.bytes, .rdi: 0 &- distance,
                ])
        case .scatter:
            try guest.load(GuestProgram.scatter, [.rbx: FlatGuest.base, .rax: 1])
        }
    }

    @Test(
        "what was sent is what the stopped guest holds, but for what it gave away",
        arguments: Writer.allCases,
        [
            (Sender.betweenSyncs, 256 << 10), (.onItsOwnThread, 256 << 10),
            (.onItsOwnThread, 1 << 30),
        ])
    func hunt(writer: Writer, sending: (sender: Sender, chunkBytes: UInt64)) throws {
        let guest = try FlatGuest(
            FlatGuest.memory(pages: Self.pageCount),
            slots: [0..<1000, 1000..<1000 + 64, 1064..<Self.pageCount])
        try Self.load(writer, into: guest)
        let precopy = try Precopy(guest, chunkBytes: sending.chunkBytes)
        let start = Monotonic.now()
        var random = SeededRandom(seed: 1)
        try HeldVCPU.with(guest) { vcpu in
            for round in 1...Self.rounds.upperBound {
                vcpu.resume()
                try precopy.run(sending.sender, syncs: 5 + random.below(30), &random)
                try vcpu.pause()
                try precopy.finish()
                let lost = precopy.differingPages
                #expect(lost == [], "round \(round)")
                let passed = Monotonic.now() - start
                try #require(passed < HostUnderTest.patienceNanoseconds, "round \(round)")
                if !lost.isEmpty { return }
                if round >= Self.rounds.lowerBound, passed > Self.nanosecondsMax { return }
            }
        }
        precopy.log.stop()
        // Or the test has shown nothing.
        #expect(precopy.pagesSent > Self.pageCount)
        #expect(precopy.writtenAfterHint > 0)
    }
}

/// Sends a guest's pages to memory beside it.
private final class Precopy: Sendable {
    let log: KVMDirtyLog
    private let guest: FlatGuest
    private let dirty: DirtyBitmap
    /// Each page as it was last sent.
    private let sent: GuestRAM
    // Relaxed: counted by the threads that send, read when they are gone.
    private let sentCount = Atomic(0)
    private let state = Mutex(State())

    /// The test's thread alone uses it; the lock is for the compiler.
    private struct State {
        /// Pages of hints that the guest wrote later.
        var writtenAfterHint = 0
        /// What pages held when the guest gave them away.
        var hinted: [Int: UInt64] = [:]
    }

    init(_ guest: FlatGuest, chunkBytes: UInt64) throws {
        self.guest = guest
        log = try KVMDirtyLog(
            machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
            slots: guest.slots, chunkBytes: chunkBytes)
        dirty = DirtyBitmap(block: guest.ram.geometry, allDirty: true)
        sent = try FlatGuest.memory(pages: guest.pageCount)
        try log.start()
        _ = try log.sync(FlatGuest.block, into: dirty)
    }

    var pagesSent: Int { sentCount.load(ordering: .relaxed) }
    var writtenAfterHint: Int { state.withLock { $0.writtenAfterHint } }

    /// Syncs, hints and sends while the guest runs.
    func run(_ sender: KVMLostWriteTests.Sender, syncs: Int, _ random: inout SeededRandom) throws {
        let isSending = Flag()
        var thread: Joined<Errno?>?
        if sender == .onItsOwnThread {
            let seed = random.next()
            thread = Joined(try JoinableThread(name: "send") { self.send(while: isSending, seed) })
        }
        let outcome = Result {
            for _ in 0..<syncs {
                _ = try log.sync(FlatGuest.block, into: dirty)
                if random.below(3) == 0 { try hint(&random) }
                if sender == .betweenSyncs {
                    for _ in 0..<random.below(40) { try sendRun(&random) }
                }
            }
        }
        isSending.lower()
        if let thread { #expect(thread.join() == nil) }
        try outcome.get()
    }

    /// Sends what is left of a stopped guest.
    func finish() throws {
        _ = try log.sync(FlatGuest.block, into: dirty)
        while let run = dirty.takeRun(from: 0, countMax: 64) { try send(run) {} }
    }

    /// Pages that were sent for the last time before they were last written.
    var differingPages: [Int] {
        state.withLock { state in
            var lost: [Int] = []
            for page in 0..<guest.pageCount {
                let now = guest.writes(to: page)
                let hinted = state.hinted.removeValue(forKey: page)
                if let hinted, hinted != now { state.writtenAfterHint += 1 }
                if unsafe memcmp(sent.page(page), guest.ram.page(page), 4096) == 0 { continue }
                if hinted == now {
                    state.hinted[page] = hinted
                } else {
                    lost.append(page)
                }
            }
            return lost
        }
    }

    private func send(while isSending: Flag, _ seed: UInt64) -> Errno? {
        var random = SeededRandom(seed: seed)
        do throws(Errno) {
            while isSending.isRaised { try sendRun(&random) }
            return nil
        } catch {
            return error
        }
    }

    /// Sends some pages from a drawn place on.
    private func sendRun(_ random: inout SeededRandom) throws(Errno) {
        let start = random.below(guest.pageCount)
        let countMax = 1 + random.below(64)
        guard let run = dirty.takeRun(from: start, countMax: countMax) else { return }
        try send(run) { Self.linger(&random) }
    }

    private func send(_ run: Range<Int>, _ linger: () -> Void) throws(Errno) {
        linger()
        try log.clear(FlatGuest.block, run)
        linger()
        for page in run { unsafe _ = memcpy(sent.page(page), guest.ram.page(page), 4096) }
        sentCount.add(run.count, ordering: .relaxed)
    }

    /// Sometimes gives the guest time to write between two steps: on a busy machine it hardly runs at
    /// the same moment as a sender.
    private static func linger(_ random: inout SeededRandom) {
        guard random.below(20) == 0 else { return }
        let end = Monotonic.now() + UInt64(random.below(200_000))
        while Monotonic.now() < end { sched_yield() }
    }

    /// The guest gives pages away: what it wrote to them so far need not be sent.
    private func hint(_ random: inout SeededRandom) throws(Errno) {
        // Where there is something to give away.
        let drawn = random.below(guest.pageCount)
        let start = dirty.nextRun(from: drawn)?.lowerBound ?? drawn
        let pages = start..<min(guest.pageCount, start + 1 + random.below(30))
        // In the order of the protocol and in QEMU's.
        if random.below(2) == 0 {
            dirty.remove(pages)
            Self.linger(&random)
            try log.forget(FlatGuest.block, pages)
        } else {
            try log.forget(FlatGuest.block, pages)
            Self.linger(&random)
            dirty.remove(pages)
        }
        state.withLock { state in
            for page in pages { state.hinted[page] = guest.writes(to: page) }
        }
    }
}

/// Raised until it is lowered.
private final class Flag: Sendable {
    // Relaxed: it only ends a loop.
    private let raised = Atomic(true)

    var isRaised: Bool { raised.load(ordering: .relaxed) }
    func lower() { raised.store(false, ordering: .relaxed) }
}

extension GuestRAM {
    /// The first byte of a target page.
    fileprivate func page(_ index: Int) -> UnsafeMutableRawPointer {
        let address = self.address.rawValue + UInt64(index) * PageSize.target.bytes
        return unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))!
    }
}
