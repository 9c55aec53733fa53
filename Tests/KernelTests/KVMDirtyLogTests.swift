import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("KVMDirtyLog", .enabled(if: HostUnderTest.hasKVM, "needs access to /dev/kvm"))
struct KVMDirtyLogTests {
    /// The chunks of these tests: 64 pages.
    private static let chunkBytes: UInt64 = 256 << 10

    /// A guest of `pages` pages, its log tracking since every page was reported and cleared.
    private struct Tracked {
        let guest: FlatGuest
        let log: KVMDirtyLog

        init(_ guest: FlatGuest, chunkBytes: UInt64 = KVMDirtyLogTests.chunkBytes) throws {
            self.guest = guest
            log = try KVMDirtyLogTests.log(of: guest, chunkBytes: chunkBytes)
            try log.check()
            try log.start()
            _ = try sync()
            try clear(0..<guest.pageCount)
        }

        /// The pages that a sync reports.
        func sync() throws -> [Int] {
            let dirty = DirtyBitmap(block: guest.ram.geometry, allDirty: false)
            let added = try log.sync(FlatGuest.block, into: dirty)
            let pages = KVMDirtyLogTests.pages(of: dirty)
            #expect(pages.count == added)
            return pages
        }

        func clear(_ pages: Range<Int>) throws { try log.clear(FlatGuest.block, pages) }
        func clear(_ page: Int) throws { try clear(page..<page + 1) }
        func forget(_ page: Int) throws { try log.forget(FlatGuest.block, page..<page + 1) }
    }

    private static func log(
        of guest: FlatGuest, chunkBytes: UInt64 = KVMDirtyLog.chunkBytesDefault
    ) throws -> KVMDirtyLog {
        try KVMDirtyLog(
            machine: guest.machine.rawDescriptor, blocks: [guest.ram.geometry],
            slots: guest.slots, chunkBytes: chunkBytes)
    }

    private static func pages(of dirty: DirtyBitmap) -> [Int] {
        var pages: [Int] = []
        while let run = dirty.nextRun(from: pages.last.map { $0 + 1 } ?? 0) { pages += run }
        return pages
    }

    /// Lets the guest write drawn sets of pages and expects to be told exactly these.
    private static func expectExact(_ tracked: Tracked, _ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let writable = tracked.guest.slots.flatMap { slot in
            let first = Int(slot.offset.rawValue >> 12)
            return Array(first..<first + Int(slot.lengthBytes >> 12))
        }
        for count in [0, 1, 2, 100, 2_000, 7, writable.count, 1, 0] {
            let written = Set(writable.shuffled(using: &random).prefix(count)).sorted()
            try tracked.guest.write(written)
            #expect(try tracked.sync() == written)
            try tracked.clear(0..<tracked.guest.pageCount)
        }
    }

    @Test(
        "a sync reports the pages that the guest wrote and no others",
        arguments: [RAMBacking.anonymous, .memfd], [256 << 10, 1 << 20, 1 << 30] as [UInt64])
    func exact(backing: RAMBacking, chunkBytes: UInt64) throws {
        let guest = try FlatGuest(pages: 3000, backing: backing)
        try Self.expectExact(Tracked(guest, chunkBytes: chunkBytes), 1)
    }

    @Test(
        "so it does for huge pages, of which the guest writes parts",
        .enabled(if: HostUnderTest.canRaiseHugePages, "needs root and 2 MiB pages"))
    func exactHuge() throws {
        try HugePagePool.raised(by: 6) {
            try Self.expectExact(Tracked(FlatGuest(pages: 3072, backing: .hugetlb)), 2)
        }
    }

    @Test(
        "slots may begin and end anywhere in the block",
        arguments: [
            [0..<160, 192..<3000], [5..<1000, 1000..<2990], [63..<64, 64..<65, 127..<193],
            [1..<3000],
        ])
    func slots(ranges: [Range<Int>]) throws {
        let guest = try FlatGuest(FlatGuest.memory(pages: 3000), slots: ranges)
        try Self.expectExact(Tracked(guest), 3)
    }

    @Test("what is not cleared is reported again, and a clearing resets its chunk alone")
    func chunks() throws {
        let tracked = try Tracked(FlatGuest(pages: 300))
        let written = [0, 63, 64, 100, 127, 128, 299]
        try tracked.guest.write(written)
        #expect(try tracked.sync() == written)
        #expect(try tracked.sync() == written)
        try tracked.guest.write([100])
        #expect(try tracked.sync() == written)
        try tracked.clear(70)
        #expect(try tracked.sync() == [0, 63, 128, 299])
        try tracked.clear(256..<300)
        #expect(try tracked.sync() == [0, 63, 128])
        try tracked.clear(40..<130)
        #expect(try tracked.sync() == [])
    }

    @Test("a write since the sync outlives the clearing of its chunk")
    func writtenSince() throws {
        let tracked = try Tracked(FlatGuest(pages: 128))
        try tracked.guest.write([1])
        #expect(try tracked.sync() == [1])
        try tracked.guest.write([2])
        try tracked.clear(1)
        try tracked.guest.write([3])
        // Its chunk is clear: nothing may be cleared again before the next sync.
        try tracked.clear(1)
        #expect(try tracked.sync() == [2, 3])
    }

    @Test("a chunk is cleared once only after each sync, by whichever page comes first")
    func once() throws {
        let tracked = try Tracked(FlatGuest(pages: 128))
        try tracked.guest.write([1, 2])
        #expect(try tracked.sync() == [1, 2])
        try tracked.clear(1)
        try tracked.guest.write([2])
        try tracked.clear(2)
        #expect(try tracked.sync() == [2])
    }

    @Test("a write behind a free-page hint is not lost when its chunk is cleared for another page")
    func hint() throws {
        let tracked = try Tracked(FlatGuest(pages: 128))
        try tracked.guest.write([1, 2])
        #expect(try tracked.sync() == [1, 2])
        try tracked.forget(1)
        try tracked.guest.write([1])
        try tracked.clear(2)
        #expect(try tracked.sync() == [1])
    }

    @Test("a hinted page is not reported again, nor is a page beside it lost")
    func forgotten() throws {
        let tracked = try Tracked(FlatGuest(pages: 128))
        let dirty = DirtyBitmap(block: tracked.guest.ram.geometry, allDirty: false)
        try tracked.guest.write([1, 2])
        #expect(try tracked.log.sync(FlatGuest.block, into: dirty) == 2)
        dirty.remove(1..<2)
        try tracked.forget(1)
        #expect(try tracked.log.sync(FlatGuest.block, into: dirty) == 0)
        #expect(Self.pages(of: dirty) == [2])
    }

    @Test("tracking begins with every write to come, ends when asked to, and begins anew")
    func lifeCycle() throws {
        let guest = try FlatGuest(pages: 128)
        let log = try Self.log(of: guest, chunkBytes: Self.chunkBytes)
        let dirty = DirtyBitmap(block: guest.ram.geometry, allDirty: false)
        log.stop()
        try log.clear(FlatGuest.block, 0..<128)
        #expect(throws: Errno.noEntry) { try log.sync(FlatGuest.block, into: dirty) }
        for _ in 0..<3 {
            try log.start()
            try guest.write([5, 70])
            _ = try log.sync(FlatGuest.block, into: dirty)
            #expect(dirty.nextRun(from: 5)?.contains(5) == true)
            #expect(dirty.nextRun(from: 70)?.contains(70) == true)
            dirty.remove(0..<128)
            // Left uncleared, to be forgotten by the next start.
            log.stop()
            log.stop()
            try log.clear(FlatGuest.block, 0..<128)
            #expect(throws: Errno.noEntry) { try log.sync(FlatGuest.block, into: dirty) }
        }
        #expect(dirty.dirtyCount == 0)
    }

    @Test("the first clearing of a restarted log uses nothing that was obtained before")
    func restart() throws {
        let tracked = try Tracked(FlatGuest(pages: 128))
        try tracked.guest.write([1])
        #expect(try tracked.sync() == [1])
        tracked.log.stop()
        try tracked.log.start()
        try tracked.guest.write([1])
        try tracked.clear(0..<128)
        #expect(try tracked.sync().contains(1))
    }

    @Test("the log outlives the descriptor that it was made with")
    func ownDescriptor() throws {
        let guest = try FlatGuest(pages: 64)
        let copy = dup(guest.machine.rawDescriptor)
        let log = try KVMDirtyLog(
            machine: copy, blocks: [guest.ram.geometry], slots: guest.slots)
        close(copy)
        try log.check()
    }
}
