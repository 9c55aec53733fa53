import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

/// Memory that the embedder mapped itself, as a RAM block.
@Suite struct GivenMemoryTests {
    /// A mapping of this test's own, unmapped when it goes.
    final class Mapping {
        let start: UInt64
        private let lengthBytes: Int

        init(
            pages: Int, flags: Int32 = MAP_PRIVATE | MAP_ANONYMOUS,
            protection: Int32 = PROT_READ | PROT_WRITE, file: Int32 = -1, place: UInt = 0
        ) throws {
            lengthBytes = pages * Int(HostMemory.pageSize.bytes)
            let address = unsafe mmap(
                UnsafeMutableRawPointer(bitPattern: place), lengthBytes, protection, flags, file, 0)
            let isMapped = unsafe address != MAP_FAILED
            try #require(isMapped)
            start = UInt64(UInt(bitPattern: address))
        }

        var address: HostAddress { HostAddress(rawValue: start) }

        func address(ofPage page: UInt64) -> HostAddress {
            HostAddress(rawValue: start + page * HostMemory.pageSize.bytes)
        }

        /// Changes what is there in some of its pages.
        func change(_ pages: Range<Int>, unmaps: Bool = false) {
            let size = Int(HostMemory.pageSize.bytes)
            let first = unsafe UnsafeMutableRawPointer(
                bitPattern: UInt(start) + UInt(pages.lowerBound * size))
            if unmaps {
                _ = unsafe munmap(first, pages.count * size)
            } else {
                _ = unsafe mprotect(first, pages.count * size, PROT_READ)
            }
        }

        deinit {
            _ = unsafe munmap(UnsafeMutableRawPointer(bitPattern: UInt(start)), lengthBytes)
        }
    }

    private func geometry(pages: Int, _ page: PageSize = HostMemory.pageSize) throws
        -> BlockGeometry
    {
        try BlockGeometry(name: "given", lengthBytes: UInt64(pages) * page.bytes, hostPage: page)
    }

    private func problem(
        _ body: () throws(RAMError) -> GuestRAM
    ) -> (problem: MappingProblem, address: UInt64)? {
        do throws(RAMError) {
            _ = try body()
            return nil
        } catch {
            guard case .givenMapping("given", let problem, let address) = error else { return nil }
            #expect(error.description.contains("'given'"))
            return (problem, address)
        }
    }

    @Test("memory that is mapped is a block of what the kernel says it is, and stays mapped")
    func taken() throws {
        let mapping = try Mapping(pages: 8)
        do {
            let ram = try unsafe GuestRAM(
                geometry(pages: 8), mapping: mapping.address, guestPhysicalAddress: 42)
            #expect(ram.backing == .anonymous && ram.address == mapping.address)
            #expect(ram.guestPhysicalAddress == 42 && !ram.isResizable && !ram.isShared)
            #expect(ram.canMissPages)
            ram.storeWord(7, at: 4_096)
        }
        let again = try unsafe GuestRAM(geometry(pages: 8), mapping: mapping.address)
        #expect(again.loadWord(at: 4_096) == 7, "it was unmapped")
        try again.drop(from: RAMOffset(rawValue: 4_096), lengthBytes: 4_096)
        #expect(again.loadWord(at: 4_096) == 0)
    }

    @Test("shared memory is told from private memory, and a file's from none")
    func kinds() throws {
        let shared = try Mapping(pages: 4, flags: MAP_SHARED | MAP_ANONYMOUS)
        let ram = try unsafe GuestRAM(geometry(pages: 4), mapping: shared.address)
        #expect(ram.backing == .memfd && ram.canMissPages)
        ram.storeWord(7, at: 0)
        try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: 4_096)
        #expect(ram.loadWord(at: 0) == 0)
        let file = unsafe tmpfile()
        let descriptor = unsafe fileno(file)
        defer { _ = unsafe fclose(file) }
        #expect(ftruncate(descriptor, 4 * 4_096) == 0)
        let own = try Mapping(pages: 4, flags: MAP_PRIVATE, file: descriptor)
        let content = try unsafe GuestRAM(geometry(pages: 4), mapping: own.address)
        #expect(!content.canMissPages && content.backing == .anonymous)
    }

    @Test("what is not mapped, or only in part, is refused with the place where that begins")
    func unmapped() throws {
        // Where the kernel puts nothing by itself: others map and unmap meanwhile.
        let mapping = try Mapping(pages: 8, place: 1 << 44)
        let geometry = try geometry(pages: 8)
        mapping.change(5..<6, unmaps: true)
        let hole = problem { () throws(RAMError) in
            try unsafe GuestRAM(geometry, mapping: mapping.address)
        }
        #expect(hole?.problem == .nothing)
        #expect(hole?.address == mapping.address(ofPage: 5).rawValue)
        for address: UInt64 in [0, 1 << 46, .max - 4_095] {
            let found = problem { () throws(RAMError) in
                try unsafe GuestRAM(geometry, mapping: HostAddress(rawValue: address))
            }
            #expect(found?.problem == .nothing, "\(address)")
        }
    }

    @Test("memory that is no guest's is refused, and it is said why")
    func unfit() throws {
        let mapping = try Mapping(pages: 8)
        let (geometry, small) = (try geometry(pages: 8), try self.geometry(pages: 1))
        func refusal(
            _ geometry: BlockGeometry, at address: HostAddress, _ backing: RAMBacking? = nil
        ) -> MappingProblem? {
            problem { () throws(RAMError) in
                try unsafe GuestRAM(geometry, mapping: address, backing: backing)
            }?.problem
        }
        let inside = HostAddress(rawValue: mapping.start + 512)
        #expect(refusal(small, at: inside) == .misaligned(page: HostMemory.pageSize))
        #expect(
            refusal(geometry, at: mapping.address, .memfd)
                == .otherBacking(.anonymous, declared: .memfd))
        let huge = try Mapping(pages: 1_024)
        let hugeBlock = try self.geometry(pages: 1, .size2MiB)
        #expect(
            refusal(hugeBlock, at: huge.address)
                == .otherPages(bytes: HostMemory.pageSize.bytes, page: .size2MiB))
        mapping.change(3..<4)
        #expect(refusal(geometry, at: mapping.address) == .mixed)
        #expect(refusal(small, at: mapping.address(ofPage: 3)) == .notReadableAndWritable)
    }

    @Test("huge pages of hugetlb are found as such")
    func hugetlb() throws {
        let block = try geometry(pages: 1, .size2MiB)
        let made = try HugePagePool.raised(by: 1) { try GuestRAM(block, backing: .hugetlb) }
        let ram = try unsafe GuestRAM(block, mapping: made.address)
        #expect(ram.backing == .hugetlb && ram.canMissPages)
        let small = try geometry(pages: 512)
        let refusal = problem { () throws(RAMError) in
            try unsafe GuestRAM(small, mapping: made.address)
        }
        #expect(
            refusal?.problem
                == .otherPages(bytes: PageSize.size2MiB.bytes, page: HostMemory.pageSize))
    }
}
