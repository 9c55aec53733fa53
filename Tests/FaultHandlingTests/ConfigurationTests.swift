import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite(
    "What a fault handler refuses",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct ConfigurationTests {
    @Test("no memory, and memory that never misses pages")
    func memory() throws {
        #expect(throws: FaultHandlerError.noMemory) {
            try FaultHandler(memory: [], pages: TestPages([BlockGeometry]()))
        }
        let path = Host.temporaryPath("content")
        let file = unsafe try #require(unsafe fopen(path, "w"))
        _ = unsafe ftruncate(fileno(file), 4096)
        _ = unsafe fclose(file)
        defer { _ = unsafe unlink(path) }
        let geometry = try BlockGeometry(
            name: "file", lengthBytes: 4096, hostPage: HostMemory.pageSize)
        let ram = try GuestRAM(geometry, contentOf: path)
        #expect(throws: FaultHandlerError.neverMisses(block: "file")) {
            try FaultHandler(memory: [ram], pages: TestPages([ram]))
        }
    }

    @Test("memory that is given twice")
    func twice() throws {
        try withMemory(pages: 1) { ram in
            #expect(throws: FaultHandlerError.repeatedMemory(block: "block 0")) {
                try FaultHandler(memory: [ram, ram], pages: TestPages([ram, ram]))
            }
        }
    }

    @Test("memory that overlaps, in any order and by as little as a page")
    func overlapping() throws {
        try withMemory(pages: 8) { whole in
            let page = HostMemory.pageSize.bytes
            func part(_ name: String, _ pages: Range<UInt64>) throws -> GuestRAM {
                let geometry = try BlockGeometry(
                    name: name, lengthBytes: UInt64(pages.count) * page,
                    hostPage: HostMemory.pageSize)
                return try unsafe GuestRAM(
                    geometry,
                    mapping: HostAddress(
                        rawValue: whole.address.rawValue + pages.lowerBound * page))
            }
            func make(_ memory: [GuestRAM]) throws {
                _ = try FaultHandler(memory: memory, pages: TestPages(memory))
            }
            let (low, high, over) = (
                try part("low", 0..<4), try part("high", 4..<8), try part("over", 3..<5)
            )
            #expect(throws: FaultHandlerError.repeatedMemory(block: "over")) {
                try make([low, high, over])
            }
            let refusal = FaultHandlerError.repeatedMemory(block: "low")
            #expect(throws: refusal) { try make([over, low]) }
            #expect(throws: refusal) { try make([whole, low]) }
            try make([high, low])
            withExtendedLifetime(whole) {}
        }
    }

    @Test("options that cannot be", arguments: 0..<8)
    func options(which: Int) throws {
        var options = FaultHandlerOptions()
        switch which {
        case 0: options.workers = 0
        case 1: options.workers = 65
        case 2: options.attempts = 0
        case 3: options.attempts = 101
        case 4: options.backgroundBytes = 4095
        case 5: options.backgroundBytes = 1 << 20 + 1
        case 6: options.backgroundThreads = 0
        default: options.pauseNanoseconds = .max
        }
        try withMemory(pages: 1) { ram in
            #expect(throws: FaultHandlerError.self) {
                try FaultHandler(memory: [ram], pages: TestPages([ram]), options: options)
            }
        }
    }

    private static let page = HostMemory.pageSize.bytes
    private typealias Region = ForeignRegionDescription

    @Test("regions of another process that cannot be")
    func regions() {
        func refusal(_ regions: [Region]) -> ForeignMemoryError? {
            do { _ = try ForeignMemory.checked(regions) } catch { return error }
            return nil
        }
        func region(
            _ address: UInt64, _ length: UInt64, offset: UInt64 = 0,
            page: UInt64 = ConfigurationTests.page
        ) -> Region {
            Region(
                address: address, lengthBytes: length, contentOffset: offset, pageBytes: page)
        }
        let page = Self.page
        #expect(refusal([]) == .noRegion)
        #expect(
            refusal((0...1_024).map { region($0 * page, page) })
                == .tooManyRegions(count: 1_025))
        for bytes: UInt64 in [0, 1, 4_095, 2_048, 6_000, 3 << 20, 2 << 30, .max] {
            #expect(
                refusal([region(0, 4 << 30, page: bytes)]) == .pageSize(region: 0, bytes: bytes))
        }
        #expect(
            refusal([region(page, page), region(8, page)])
                == .unaligned(region: 1, address: 8, lengthBytes: page, pageBytes: page))
        #expect(
            refusal([region(page, 0)])
                == .unaligned(region: 0, address: page, lengthBytes: 0, pageBytes: page))
        #expect(
            refusal([region(page, 2 << 20, page: 2 << 20)])
                == .unaligned(
                    region: 0, address: page, lengthBytes: 2 << 20, pageBytes: 2 << 20))
        let huge = UInt64.max & ~(page - 1)
        for bad in [
            region(huge, page), region(page, huge), region(huge, huge),
            region(page, page, offset: huge), region(1 << 62, page), region(page, 1 << 48),
            region(1 << 56, page), region(1 << 56 - page, 2 * page),
        ] {
            #expect(
                refusal([bad])
                    == .beyondRange(
                        region: 0, address: bad.address, lengthBytes: bad.lengthBytes))
        }
        #expect(
            refusal([region(4 * page, page), region(0, 2 * page), region(page, page)])
                == .overlap(1, 2))
        #expect(refusal([region(2 * page, page), region(0, 2 * page)]) == nil)
    }

    @Test("descriptors that are no userfaultfd, or not ready")
    func descriptors() throws {
        let regions = [
            ForeignRegionDescription(
                address: 1 << 30, lengthBytes: Self.page, contentOffset: 0, pageBytes: Self.page)
        ]
        func refusal(_ raw: Int32) -> ForeignMemoryError? {
            do {
                _ = try ForeignMemory(
                    userfaultfd: FileDescriptor(owning: raw), regions: regions)
            } catch { return error }
            return nil
        }
        let pipeEnd = unsafe open("/dev/null", O_RDWR | O_CLOEXEC)
        #expect(refusal(pipeEnd) == .descriptor(.noUserfaultfd))
        #expect(refusal(RawUserfaultfd.open(features: nil)) == .descriptor(.noHandshake))
        #expect(refusal(RawUserfaultfd.open(features: 0)) == nil)
        #expect(refusal(-1) == .descriptor(.kernel(.noEntry)))
    }

    @Test("every refusal says something in words")
    func words() {
        let errors: [any CustomStringConvertible] = [
            FaultHandlerError.noMemory, FaultHandlerError.neverMisses(block: "b"),
            FaultHandlerError.unsupported(.fork), FaultHandlerError.unsupported(.move(from: 1)),
            FaultHandlerError.faultOutside(address: 1), FaultHandlerError.ownerGone,
            FaultHandlerError.registering(block: "b", .busy),
            FaultHandlerError.repeatedMemory(block: "b"),
            FaultHandlerError.otherPages(block: "b", pageBytes: 1),
            ForeignMemoryError.overlap(0, 1), ForeignMemoryError.noRegion,
            FilePagesError.tooShort("f", lengthBytes: 1, neededBytes: 2),
        ]
        for error in errors { #expect(error.description.count > 15, "\(error)") }
        #expect(
            FaultHandlerError.unsupported(.fork).description
                == "the process whose memory is served has forked, which cannot be followed: let it ask "
                + "for missing pages, and for notice of removed and unmapped ones at most")
    }
}
