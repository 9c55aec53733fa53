import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite(
    "Transparent huge pages",
    .enabled(if: hostGivesHugePages, "needs Linux 6.7 and transparent huge pages not 'never'"))
struct HugePagesTests {
    private static let small = RAMBacking.allCases.filter { $0 != .hugetlb }
    private static let page = HostMemory.pageSize.bytes
    private static let huge = HostMemory.hugePageSize?.bytes ?? 0

    /// A block of whole ranges and some pages behind them.
    private func ram(_ backing: RAMBacking, ranges: UInt64, pages: UInt64 = 3) throws -> GuestRAM {
        let geometry = try BlockGeometry(
            name: "huge", lengthBytes: ranges * Self.huge + pages * Self.page,
            hostPage: HostMemory.pageSize)
        return try GuestRAM(geometry, backing: backing)
    }

    private func offset(ofRange range: UInt64) -> RAMOffset {
        RAMOffset(rawValue: range * Self.huge)
    }

    /// Writes its number at the start of every page, from 1 on.
    private func fill(_ ram: GuestRAM) {
        for at in stride(from: 0, to: ram.geometry.lengthBytes, by: Int(Self.page)) {
            ram.storeWord(at / Self.page + 1, at: at)
        }
    }

    /// Pages that do not begin with their number.
    private func wrongPages(_ ram: GuestRAM) -> [UInt64] {
        stride(from: 0, to: ram.geometry.lengthBytes, by: Int(Self.page))
            .filter { ram.loadWord(at: $0) != $0 / Self.page + 1 }
            .map { $0 / Self.page }
    }

    @Test("a block begins where a huge page can, and takes no room beside itself")
    func alignment() async {
        await #expect(processExitsWith: .success) {
            let page = HostMemory.pageSize
            let huge = try #require(HostMemory.hugePageSize).bytes
            let before = try #require(HostUnderTest.virtualBytes)
            var blocks: [GuestRAM] = []
            for index in 0..<200 as Range<UInt64> {
                let length = 2 * huge + index % 7 * page.bytes
                let geometry = try BlockGeometry(name: "a", lengthBytes: length, hostPage: page)
                let backing = index % 2 == 0 ? RAMBacking.anonymous : .memfd
                blocks.append(try GuestRAM(geometry, backing: backing))
            }
            #expect(blocks.allSatisfy { $0.address.rawValue % huge == 0 })
            let mapped = blocks.reduce(0) { $0 + $1.geometry.lengthBytes }
            let after = try #require(HostUnderTest.virtualBytes)
            // Room to align each would be 200 huge pages.
            #expect(after - before < mapped + 100 * huge)
        }
    }

    @Test("anonymous memory comes in huge pages until they are switched off")
    func givenByFault() throws {
        let ram = try ram(.anonymous, ranges: 4)
        #expect(ram.hugeBytes() == 0)
        ram.storeWord(1, at: 0)
        ram.storeWord(1, at: 2 * Self.huge + 8)
        #expect(ram.hugeBytes() == 2 * Self.huge)
        ram.avoidHugePages()
        ram.storeWord(1, at: 3 * Self.huge)
        #expect(ram.hugeBytes() == 2 * Self.huge)
        ram.allowHugePages()
        ram.storeWord(1, at: Self.huge)
        #expect(ram.hugeBytes() == 3 * Self.huge)
    }

    @Test("the share of a large block is estimated from every n-th range")
    func sampled() throws {
        let ram = try ram(.anonymous, ranges: 1_536)
        for range in 0..<4 as Range<UInt64> { ram.storeWord(1, at: range * Self.huge) }
        #expect(ram.hugeBytes() == 4 * Self.huge)
    }

    @Test(
        "hugetlb is huge from the start, and not collapsed",
        .enabled(if: HostUnderTest.canRaiseHugePages, "needs root, and huge pages of 2 MiB"))
    func hugetlb() throws {
        try HugePagePool.raised(by: 2) {
            let geometry = try BlockGeometry(
                name: "huge", lengthBytes: 4 << 20, hostPage: .size2MiB)
            let ram = try GuestRAM(geometry, backing: .hugetlb)
            #expect(ram.hugeBytes() == 4 << 20)
            #expect(try ram.collapse(rangeAt: RAMOffset(rawValue: 0)) == .wasHuge)
            #expect(!mappingFlags(at: ram.address.rawValue).contains("nh"))
        }
    }

    @Test("a range of small pages becomes one huge page with the same content", arguments: small)
    func collapse(backing: RAMBacking) throws {
        let ram = try ram(backing, ranges: 3)
        ram.avoidHugePages()
        fill(ram)
        #expect(ram.hugeBytes() == 0)
        #expect(try ram.collapse(rangeAt: offset(ofRange: 1)) == .unsuitable)
        ram.allowHugePages()
        #expect(try ram.collapse(rangeAt: offset(ofRange: 1)) == .rebuilt)
        #expect(try ram.collapse(rangeAt: offset(ofRange: 1)) == .wasHuge)
        #expect(ram.hugeBytes() == Self.huge)
        #expect(GuestRAM.hugeBytes(of: [ram, ram]) == 2 * Self.huge)
        #expect(wrongPages(ram).isEmpty)
    }

    @Test("a range without content is left alone: it would take memory")
    func onlyZeros() throws {
        let ram = try ram(.anonymous, ranges: 2)
        ram.avoidHugePages()
        // Reading maps the shared zero page.
        for page in 0..<Self.huge / Self.page { #expect(ram.loadWord(at: page * Self.page) == 0) }
        ram.allowHugePages()
        #expect(try ram.collapse(rangeAt: offset(ofRange: 0)) == .onlyZeros)
        #expect(try ram.collapse(rangeAt: offset(ofRange: 1)) == .onlyZeros)
        #expect(ram.hugeBytes() == 0)
    }

    @Test("a range that was given back for the most part is still rebuilt", arguments: small)
    func sparse(backing: RAMBacking) throws {
        let ram = try ram(backing, ranges: 1)
        ram.avoidHugePages()
        ram.storeWord(7, at: 5 * Self.page)
        ram.allowHugePages()
        #expect(try ram.collapse(rangeAt: offset(ofRange: 0)) == .rebuilt)
        #expect(ram.loadWord(at: 5 * Self.page) == 7)
        #expect(ram.loadWord(at: 6 * Self.page) == 0)
    }

    @Test("pages dropped inside a huge page are gone, and only they", arguments: small)
    func drop(backing: RAMBacking) throws {
        let ram = try ram(backing, ranges: 3)
        fill(ram)
        for range in 0..<3 as Range<UInt64> {
            _ = try ram.collapse(rangeAt: offset(ofRange: range))
        }
        #expect(ram.hugeBytes() == 3 * Self.huge)
        ram.avoidHugePages()
        let pages = Self.huge / Self.page
        // One page, one across the border of two huge pages, and their neighbours stay.
        for dropped in [5..<6, 2 * pages - 1..<2 * pages + 2] {
            try ram.drop(
                from: RAMOffset(rawValue: dropped.lowerBound * Self.page),
                lengthBytes: UInt64(dropped.count) * Self.page)
        }
        #expect(wrongPages(ram) == [5, 2 * pages - 1, 2 * pages, 2 * pages + 1])
        #expect(wrongPages(ram).allSatisfy { ram.loadWord(at: $0 * Self.page) == 0 })
        #expect(ram.hugeBytes() == 0)
    }

    @Test("a part of a shared huge page that somebody holds is not said to be dropped")
    func heldPage() throws {
        let ram = try ram(.memfd, ranges: 1, pages: 0)
        fill(ram)
        try #require(try ram.collapse(rangeAt: offset(ofRange: 0)) == .rebuilt)
        let held = try HeldPage(at: ram.address.rawValue + 9 * Self.page)
        #expect(throws: Errno.busy) {
            try ram.drop(from: RAMOffset(rawValue: 5 * Self.page), lengthBytes: Self.page)
        }
        held.release()
        try ram.drop(from: RAMOffset(rawValue: 5 * Self.page), lengthBytes: Self.page)
        #expect(wrongPages(ram) == [5])
    }
}

/// A reference to a page of this process, kept by a pipe that the page was spliced into.
private final class HeldPage {
    private let pipe: (read: Int32, write: Int32)

    private typealias Splice = @convention(c) (Int32, UnsafeRawPointer, UInt, UInt32) -> Int

    init(at address: UInt64) throws {
        var ends: [Int32] = [0, 0]
        try #require(unsafe Glibc.pipe(&ends) == 0)
        pipe = (ends[0], ends[1])
        // The importer does not define _GNU_SOURCE, and so knows no vmsplice.
        guard let symbol = unsafe dlsym(nil, "vmsplice") else { throw Errno.noSystemCall }
        let splice = unsafe unsafeBitCast(symbol, to: Splice.self)
        var vector = unsafe iovec(
            iov_base: UnsafeMutableRawPointer(bitPattern: UInt(address)), iov_len: 4096)
        try #require(unsafe splice(pipe.write, &vector, 1, 0) == 4096)
    }

    /// Reads it: a process that another test starts meanwhile may have inherited the pipe.
    func release() {
        var bytes = [UInt8](repeating: 0, count: 4096)
        _ = unsafe read(pipe.read, &bytes, bytes.count)
        close(pipe.read)
        close(pipe.write)
    }
}
