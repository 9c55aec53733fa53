import CShims
import Glibc
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "WriteProtectTracker",
    .enabled(if: TrackedMemory.canTrack, "needs Linux 6.7 and access to userfaultfd"))
struct WriteProtectTrackerTests {
    static let block = BlockIndex(rawValue: 0)

    /// Bytes of a target page.
    static let pageBytes = PageSize.target.bytes

    /// Writes a word of each page somewhere in it; answers the pages that then are dirty.
    private func write(
        _ pages: Set<Int>, of ram: GuestRAM, unit: Int, _ random: inout SeededRandom
    ) -> Set<Int> {
        var dirty: Set<Int> = []
        for page in pages {
            let place = UInt64(page) * Self.pageBytes + UInt64(random.below(512)) * 8
            ram.storeWord(random.next(), at: place)
            let first = page / unit * unit
            dirty.formUnion(first..<first + unit)
        }
        return dirty
    }

    private func somePages(of ram: GuestRAM, _ random: inout SeededRandom) -> Set<Int> {
        let count = ram.geometry.targetPageCount
        let densities = [1, 7, 100, count / 2, count]
        let wanted = densities[random.below(densities.count)]
        return Set((0..<wanted).map { _ in random.below(count) })
    }

    private func sum(of ram: GuestRAM) -> UInt64 {
        var sum: UInt64 = 0
        for page in 0..<UInt64(ram.geometry.targetPageCount) {
            for place in [page % 512 * 8, 4088] {
                sum = sum &* 31 &+ ram.loadWord(at: page * Self.pageBytes + place)
            }
        }
        return sum
    }

    @Test("the pages that were written are dirty, and no others", arguments: TrackedMemory.present)
    func exact(kind: TrackedMemory) throws {
        try kind.with { ram in
            var random = SeededRandom(seed: 11)
            let dirty = DirtyBitmap(block: ram.geometry, allDirty: false)
            let tracker = WriteProtectTracker([ram])
            try tracker.check()
            // A second migration of the same guest finds nothing of the first.
            for _ in 0..<3 {
                try tracker.start()
                #expect(try tracker.sync(Self.block, into: dirty) == 0)
                for _ in 0..<8 {
                    let pages = somePages(of: ram, &random)
                    let expected = write(pages, of: ram, unit: kind.unit, &random)
                    #expect(try tracker.sync(Self.block, into: dirty) == expected.count)
                    #expect(dirty.takeAll() == expected)
                    _ = sum(of: ram)
                    #expect(try tracker.sync(Self.block, into: dirty) == 0, "reads are no writes")
                }
                tracker.stop()
            }
            #expect(dirty.dirtyCount == 0)
        }
    }

    @Test("pages that were dirty already are not counted", arguments: TrackedMemory.present)
    func count(kind: TrackedMemory) throws {
        try kind.with { ram in
            let dirty = DirtyBitmap(block: ram.geometry, allDirty: false)
            let tracker = WriteProtectTracker([ram])
            try tracker.start()
            defer { tracker.stop() }
            dirty.insert(0..<kind.unit)
            ram.storeWord(1, at: 0)
            #expect(try tracker.sync(Self.block, into: dirty) == 0)
            ram.storeWord(2, at: 0)
            ram.storeWord(2, at: ram.geometry.lengthBytes - 8)
            #expect(try tracker.sync(Self.block, into: dirty) == kind.unit)
            #expect(dirty.dirtyCount == 2 * kind.unit)
        }
    }

    @Test("stopping leaves the memory as it was, unprotected", arguments: TrackedMemory.present)
    func stop(kind: TrackedMemory) throws {
        try kind.with { ram in
            var random = SeededRandom(seed: 5)
            let tracker = WriteProtectTracker([ram])
            tracker.stop()
            try tracker.start()
            _ = write([3, 4, 4 * kind.unit], of: ram, unit: kind.unit, &random)
            let before = sum(of: ram)
            let present = TrackedMemory.bytes(of: ram, with: PC_PAGE_PRESENT)
            #expect(TrackedMemory.bytes(of: ram, with: PC_PAGE_WRITTEN) < present)
            tracker.stop()
            tracker.stop()
            #expect(sum(of: ram) == before)
            #expect(present == ram.geometry.lengthBytes)
            #expect(TrackedMemory.bytes(of: ram, with: PC_PAGE_WRITTEN) == present)
        }
    }

    @Test("a hint forgets whole host pages and nothing beside", arguments: TrackedMemory.present)
    func forget(kind: TrackedMemory) throws {
        try kind.with { ram in
            let unit = kind.unit
            let dirty = DirtyBitmap(block: ram.geometry, allDirty: false)
            let tracker = WriteProtectTracker([ram])
            try tracker.forget(Self.block, 0..<unit)
            try tracker.start()
            let everything = Set(0..<8 * unit)
            func writeAll() {
                for page in everything { ram.storeWord(1, at: UInt64(page) * Self.pageBytes) }
            }
            writeAll()
            try tracker.forget(Self.block, 2 * unit..<5 * unit)
            _ = try tracker.sync(Self.block, into: dirty)
            #expect(dirty.takeAll() == everything.subtracting(2 * unit..<5 * unit))
            writeAll()
            try tracker.forget(Self.block, 2 * unit..<2 * unit)
            if unit > 1 {
                try tracker.forget(Self.block, 1..<2 * unit - 1)
                try tracker.forget(Self.block, 3 * unit + 1..<5 * unit - 1)
            }
            _ = try tracker.sync(Self.block, into: dirty)
            #expect(dirty.takeAll() == everything)
            writeAll()
            try tracker.forget(Self.block, 0..<ram.geometry.targetPageCount)
            ram.storeWord(2, at: 0)
            _ = try tracker.sync(Self.block, into: dirty)
            #expect(dirty.takeAll() == Set(0..<unit))
            tracker.stop()
            try tracker.forget(Self.block, 0..<unit)
        }
    }

    @Test("it starts and stops while threads write and hint", arguments: TrackedMemory.present)
    func whileWriting(kind: TrackedMemory) throws {
        try kind.with { ram in
            let tracker = WriteProtectTracker([ram])
            let isWriting = Atomic(true)
            let writes = Atomic(0)
            let writer = try JoinableThread(name: "writer") {
                var random = SeededRandom(seed: 1)
                while isWriting.load(ordering: .relaxed) {
                    let page = random.below(ram.geometry.targetPageCount)
                    ram.storeWord(random.next(), at: UInt64(page) * Self.pageBytes)
                    writes.add(1, ordering: .relaxed)
                }
            }
            let hinter = try JoinableThread(name: "hinter") { () -> Errno? in
                while isWriting.load(ordering: .relaxed) {
                    do throws(Errno) {
                        try tracker.forget(Self.block, 0..<ram.geometry.targetPageCount)
                    } catch { return error }
                }
                return nil
            }
            let dirty = DirtyBitmap(block: ram.geometry, allDirty: false)
            let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
            var failure: (any Error)?
            do {
                for cycle in 1...20 {
                    try tracker.start()
                    _ = try tracker.sync(Self.block, into: dirty)
                    while writes.load(ordering: .relaxed) < 50 * cycle, Monotonic.now() < deadline {
                        _ = try tracker.sync(Self.block, into: dirty)
                    }
                    tracker.stop()
                }
            } catch { failure = error }
            isWriting.store(false, ordering: .relaxed)
            writer.join()
            let refusal = hinter.join()
            #expect(failure == nil && refusal == nil)
            #expect(writes.load(ordering: .relaxed) >= 1000)
        }
    }

    @Test("an ignored block is left alone")
    func ignored() throws {
        let blocks = try (0..<2).map {
            try TrackedMemory.ram(.memfd, named: "b\($0)", bytes: 8 * HostMemory.pageSize.bytes)
        }
        let other = try Userfaultfd.open(.userOnly)
        try other.register(blocks[0])
        let tracker = WriteProtectTracker(blocks, ignoring: [Self.block])
        try tracker.check()
        try tracker.start()
        defer { tracker.stop() }
        let dirty = blocks.map { DirtyBitmap(block: $0.geometry, allDirty: false) }
        blocks[1].storeWord(1, at: 0)
        try tracker.forget(Self.block, 0..<1)
        #expect(try tracker.sync(Self.block, into: dirty[0]) == 0)
        let second = BlockIndex(rawValue: 1)
        #expect(try tracker.sync(second, into: dirty[1]) == HostMemory.pageSize.targetPages)
    }

    @Test("a block that another userfaultfd has is refused by name, and none is kept")
    func taken() throws {
        let blocks = try (0..<2).map {
            try TrackedMemory.ram(.anonymous, named: "b\($0)", bytes: HostMemory.pageSize.bytes)
        }
        let other = try Userfaultfd.open(.userOnly)
        try other.register(blocks[1])
        let tracker = WriteProtectTracker(blocks)
        let expected = TrackerRefusal.registering("b1", .busy)
        #expect(throws: expected) { try tracker.check() }
        #expect(throws: expected) { try tracker.start() }
        try other.register(blocks[0])
        for block in blocks { try other.unregister(block) }
        try tracker.check()
        try other.register(blocks[0])
        try other.unregister(blocks[0])
        try tracker.start()
        try tracker.check()
        tracker.stop()
    }

    @Test("writes of the kernel count, and need no privilege", arguments: [-1, 0])
    func kernelWrites(memfd: Int32) throws {
        let page = HostMemory.pageSize.bytes
        let file = memfd < 0 ? memfd : unsafe pc_memfd_create("kernel-writes", 2 * page)
        defer { if file >= 0 { close(file) } }
        let mapped = pc_map(file, 2 * page, page)
        try #require(mapped > 0)
        let start = UInt64(mapped)
        defer { _ = pc_unmap(start, 2 * page) }
        let uffd = pc_uffd_open_syscall(1)
        try #require(uffd >= 0)
        defer { close(uffd) }
        var answer: UInt64 = 0
        let wanted =
            UInt64(PC_UFFD_FEATURE_WP_ASYNC.rawValue)
            | UInt64(PC_UFFD_FEATURE_WP_HUGETLBFS_SHMEM.rawValue)
        try #require(unsafe pc_uffd_handshake(uffd, wanted, &answer) == 0)
        let mode = UInt64(PC_UFFD_MODE_WRITE_PROTECT.rawValue)
        try #require(unsafe pc_uffd_register(uffd, start, 2 * page, mode, &answer) == 0)
        try #require(pc_uffd_writeprotect(uffd, start, 2 * page, 1) == 0)
        var ends: [Int32] = [0, 0]
        try #require(unsafe pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        try #require(unsafe Glibc::write(ends[1], "12345", 5) == 5)
        let target = unsafe UnsafeMutableRawPointer(bitPattern: UInt(start + page))
        #expect(unsafe Glibc::read(ends[0], target, 5) == 5)
        let pageMap = pc_pagemap_open()
        try #require(pageMap >= 0)
        defer { close(pageMap) }
        var runs = [pc_page_run](repeating: pc_page_run(), count: 4)
        let count = unsafe pc_pagemap_scan(
            pageMap, start, start + 2 * page, UInt64(PC_PAGE_WRITTEN.rawValue), 1, &runs, 4,
            &answer)
        #expect(count == 1)
        #expect(runs[0].start == start + page && runs[0].end == start + 2 * page)
    }
}
