import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("Runs of memory that is not zero")
struct NonZeroRunTests {
    private static let page = PageSize.target.bytes

    private func range(_ pages: Range<UInt64>) -> Range<RAMOffset> {
        RAMOffset(
            rawValue: pages.lowerBound * Self.page)..<RAMOffset(
                rawValue: pages.upperBound * Self.page)
    }

    /// All runs of a part, in pages.
    private func runs(_ ram: GuestRAM, in pages: Range<UInt64>) throws -> [Range<UInt64>] {
        var found: [Range<UInt64>] = []
        var from = pages.lowerBound
        var runs = NonZeroRuns(of: ram)
        while let run = try runs.next(in: range(from..<pages.upperBound)) {
            from = run.upperBound.rawValue / Self.page
            found.append(run.lowerBound.rawValue / Self.page..<from)
        }
        return found
    }

    private func ram(_ backing: RAMBacking, pages: UInt64) throws -> GuestRAM {
        try GuestRAM(
            BlockGeometry(
                name: "runs", lengthBytes: pages * Self.page, hostPage: HostMemory.pageSize),
            backing: backing)
    }

    @Test(
        "runs are what was written, cut by the part that is asked for",
        arguments: [RAMBacking.anonymous, .memfd])
    func found(backing: RAMBacking) throws {
        let ram = try ram(backing, pages: 64)
        ram.avoidHugePages()
        #expect(try runs(ram, in: 0..<64).isEmpty)
        for page in [0, 1, 2, 10, 12, 13, 62, 63] as [UInt64] {
            ram.storeWord(1, at: page * Self.page + 4_088)
        }
        // Touched, and zero.
        ram.storeWord(0, at: 30 * Self.page)
        #expect(try runs(ram, in: 0..<64) == [0..<3, 10..<11, 12..<14, 62..<64])
        #expect(try runs(ram, in: 1..<13) == [1..<3, 10..<11, 12..<13])
        #expect(try runs(ram, in: 63..<64) == [63..<64])
        #expect(try runs(ram, in: 14..<62).isEmpty)
        #expect(try runs(ram, in: 5..<5).isEmpty)
        // Part by part, as who shows progress asks; and from the start again.
        var parts = NonZeroRuns(of: ram)
        for _ in 0..<2 {
            var pages = 0
            for part in 0..<8 as Range<UInt64> {
                let end = (part + 1) * 8
                var from = part * 8
                while let run = try parts.next(in: range(from..<end)) {
                    from = run.upperBound.rawValue / Self.page
                    pages += Int(from - run.lowerBound.rawValue / Self.page)
                }
            }
            #expect(pages == 8)
        }
    }

    @Test("to look takes no memory", arguments: [RAMBacking.anonymous, .memfd])
    func untouched(backing: RAMBacking) throws {
        let ram = try ram(backing, pages: 16_384)
        ram.avoidHugePages()
        ram.storeWord(1, at: 9_000 * Self.page)
        #expect(try runs(ram, in: 0..<16_384) == [9_000..<9_001])
        // Of a memfd the resident pages, of anonymous memory those that are no zero page.
        let field = backing == .memfd ? "Rss" : "Anonymous"
        #expect(mappingBytes(field, at: ram.address.rawValue) == Self.page)
    }

    @Test("of a file's content it finds the data")
    func content() throws {
        let path = HostUnderTest.temporaryPath("runs")
        let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        defer { _ = unsafe unlink(path) }
        defer { close(raw) }
        try #require(ftruncate(raw, off_t(256 * Self.page)) == 0)
        var word: UInt64 = 7
        try #require(unsafe pwrite(raw, &word, 8, off_t(100 * Self.page)) == 8)
        let block = try BlockGeometry(
            name: "a", lengthBytes: 256 * Self.page, hostPage: HostMemory.pageSize)
        #expect(try runs(GuestRAM(block, contentOf: path), in: 0..<256) == [100..<101])
        #expect(try runs(GuestRAM(block, sharing: path), in: 0..<256) == [100..<101])
    }
}
