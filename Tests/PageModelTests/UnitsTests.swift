import PageModel
import Testing

@Suite("Units")
struct UnitsTests {
    @Test("a page size is a power of two from 4 KiB to 1 GiB", arguments: 0..<64)
    func powers(shift: Int) throws {
        let bytes: UInt64 = 1 << UInt64(shift)
        let size = PageSize(bytes: bytes)
        guard (12...30).contains(shift) else {
            #expect(size == nil)
            return
        }
        let valid = try #require(size)
        #expect(valid.shift == shift)
        #expect(valid.bytes == bytes)
        #expect(UInt64(valid.targetPages) * PageSize.target.bytes == bytes)
        #expect(valid.divides(0) && valid.divides(bytes) && valid.divides(bytes * 3))
        #expect(!valid.divides(bytes - 1) && !valid.divides(bytes + 1) && !valid.divides(1))
    }

    @Test(
        "what is no power of two is no page size",
        arguments: [0, 1, 3, 4095, 4097, 12_288, 1 << 30 | 1, 3 << 20, .max] as [UInt64])
    func refused(bytes: UInt64) { #expect(PageSize(bytes: bytes) == nil) }

    @Test("the named sizes are in order")
    func named() {
        #expect(PageSize.target.bytes == 4096)
        #expect(PageSize.size2MiB.bytes == 2 << 20)
        #expect(PageSize.size1GiB.bytes == 1 << 30)
        #expect(PageSize.target < .size2MiB && .size2MiB < PageSize.size1GiB)
    }

    @Test("indices and positions compare as their numbers", arguments: [(0, 1), (7, 7), (9, 3)])
    func order(left: Int, right: Int) {
        let less = left < right
        #expect((BlockIndex(rawValue: left) < BlockIndex(rawValue: right)) == less)
        #expect((HostPageIndex(rawValue: left) < HostPageIndex(rawValue: right)) == less)
        let offsets = (RAMOffset(rawValue: UInt64(left)), RAMOffset(rawValue: UInt64(right)))
        #expect((offsets.0 < offsets.1) == less)
        let addresses = (HostAddress(rawValue: UInt64(left)), HostAddress(rawValue: UInt64(right)))
        #expect((addresses.0 < addresses.1) == less)
    }
}
