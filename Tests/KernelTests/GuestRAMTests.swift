import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("GuestRAM")
struct GuestRAMTests {
    private func geometry(
        _ pages: UInt64, name: String = "pc.ram", _ page: PageSize = HostMemory.pageSize
    ) throws -> BlockGeometry {
        try BlockGeometry(name: name, lengthBytes: pages * page.bytes, hostPage: page)
    }

    private func refusal(_ geometry: BlockGeometry, _ backing: RAMBacking) -> RAMError? {
        do throws(RAMError) { _ = try GuestRAM(geometry, backing: backing) } catch { return error }
        return nil
    }

    private static let small = RAMBacking.allCases.filter { $0 != .hugetlb }

    @Test("fresh memory is zero, keeps what is written and knows its addresses", arguments: small)
    func content(backing: RAMBacking) throws {
        let ram = try GuestRAM(geometry(3), backing: backing)
        let length = ram.geometry.lengthBytes
        #expect(ram.isZeroPage(at: RAMOffset(rawValue: 0)))
        ram.storeWord(7, at: length - 8)
        #expect(ram.loadWord(at: length - 8) == 7)
        let start = ram.address.rawValue
        for (address, offset) in [(start, 0), (start + length - 1, length - 1)] {
            let found = ram.offset(of: HostAddress(rawValue: address))
            #expect(found == RAMOffset(rawValue: offset))
        }
        for address in [start - 1, start + length, 0, .max] {
            #expect(ram.offset(of: HostAddress(rawValue: address)) == nil)
        }
        let bytes = [UInt8](repeating: 1, count: 5000)
        ram.write(bytes.span, at: RAMOffset(rawValue: 4090))
        let word = ram.withPage(at: 4088, lengthBytes: 16) { words in (words[0], words[1]) }
        #expect(word == (0x0101_0101_0101_0000, 0x0101_0101_0101_0101))
        ram.withMutablePage(at: 8, lengthBytes: 8) { words in words[0] = 5 }
        #expect(ram.loadWord(at: 8) == 5)
    }

    @Test("one byte anywhere makes a page not zero")
    func zeroPages() throws {
        let ram = try GuestRAM(geometry(2), backing: .anonymous)
        let one: [UInt8] = [0x80]
        let none: [UInt8] = [0]
        for position in 0..<UInt64(4096) {
            let at = RAMOffset(rawValue: 4096 + position)
            ram.write(one.span, at: at)
            #expect(!ram.isZeroPage(at: RAMOffset(rawValue: 4096)), "byte \(position)")
            #expect(ram.isZeroPage(at: RAMOffset(rawValue: 0)))
            ram.write(none.span, at: at)
        }
        #expect(ram.isZeroPage(at: RAMOffset(rawValue: 4096)))
    }

    @Test("dropped pages read as zeros and their neighbours stay", arguments: small)
    func drop(backing: RAMBacking) throws {
        let ram = try GuestRAM(geometry(3), backing: backing)
        let page = ram.geometry.hostPage.bytes
        for index in 0..<3 as Range<UInt64> { ram.storeWord(index + 1, at: index * page) }
        try ram.drop(from: RAMOffset(rawValue: page), lengthBytes: page)
        #expect((0..<3).map { ram.loadWord(at: $0 * page) } == [1, 0, 3])
        try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: 0)
        try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: 3 * page)
        #expect((0..<3).map { ram.loadWord(at: $0 * page) } == [0, 0, 0])
    }

    @Test("a mapping allows huge pages until they are switched off", arguments: small)
    func hugePages(backing: RAMBacking) throws {
        let ram = try GuestRAM(geometry(1024), backing: backing)
        func flags() -> Set<Substring> { mappingFlags(at: ram.address.rawValue) }
        #expect(flags().isSuperset(of: ["hg", "dd"]), "guest memory is left out of core dumps")
        ram.avoidHugePages()
        #expect(flags().contains("nh") && !flags().contains("hg"))
        ram.allowHugePages()
        #expect(flags().contains("hg") && !flags().contains("nh"))
    }

    @Test("a name of any legal length can be had", arguments: [1, 248, 249, 250, 255])
    func names(bytes: Int) throws {
        for name in [String(repeating: "n", count: bytes), String(repeating: "é", count: 127)] {
            _ = try GuestRAM(geometry(1, name: name), backing: .memfd)
        }
    }

    @Test("huge pages that are not there are refused with the file to write")
    func tooFewHugePages() throws {
        let block = try geometry(1 << 20, .size2MiB)
        guard case .tooFewHugePages(_, 1 << 20, let free, .size2MiB) = refusal(block, .hugetlb)
        else {
            Issue.record("\(String(describing: refusal(block, .hugetlb)))")
            return
        }
        #expect(free >= 0)
        let text = "\(refusal(block, .hugetlb)!)"
        #expect(text.contains("needs 1048576 huge pages of 2048 KiB"))
        #expect(text.contains("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"))
    }

    @Test("a size of huge pages that the host lacks is named")
    func unknownHugePages() throws {
        let page = try #require(PageSize(bytes: 64 << 20))
        #expect(
            refusal(try geometry(1, page), .hugetlb)
                == .hugePageSizeUnknown(block: "pc.ram", page: page))
    }

    @Test("more than the address space is the kernel's to refuse", arguments: small)
    func tooLong(backing: RAMBacking) throws {
        let length = BlockGeometry.lengthBytesMax
        let block = try BlockGeometry(
            name: "a", lengthBytes: length, hostPage: HostMemory.pageSize)
        let error = try #require(refusal(block, backing))
        #expect(error == .mapping(block: "a", lengthBytes: length, .noMemory))
        #expect("\(error)".contains("mapping \(length) bytes"))
    }

    @Test("words outside the block, and misaligned ones, are bugs")
    func outside() async {
        await #expect(processExitsWith: .failure) {
            let block = try BlockGeometry(name: "a", lengthBytes: 4096, hostPage: .target)
            _ = try GuestRAM(block, backing: .anonymous).loadWord(at: 4096)
        }
        await #expect(processExitsWith: .failure) {
            let block = try BlockGeometry(name: "a", lengthBytes: 4096, hostPage: .target)
            try GuestRAM(block, backing: .anonymous).storeWord(1, at: 4)
        }
    }
}
