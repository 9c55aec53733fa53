import Glibc
import Postcopy
import TestSupport
import Testing

/// Guests in memory that the embedder mapped itself.
@Suite struct GivenMemoryTests {
    /// 8 MiB that this test maps and unmaps.
    final class Mapping {
        static let lengthBytes = 8 << 20
        let address: HostAddress

        /// - Parameter place: where the kernel puts nothing by itself, for one that is unmapped while
        ///   others map theirs; 0 for anywhere.
        init(_ kind: Int32, place: UInt = 0) throws {
            let start = unsafe mmap(
                UnsafeMutableRawPointer(bitPattern: place), Self.lengthBytes,
                PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0)
            let isMapped = unsafe start != MAP_FAILED
            try #require(isMapped)
            address = HostAddress(rawValue: UInt64(UInt(bitPattern: start)))
        }

        func block() throws -> GuestRAM { try block("given", 0..<Self.lengthBytes) }

        /// Of some of its bytes.
        func block(_ name: String, _ bytes: Range<Int>) throws -> GuestRAM {
            let start = address.rawValue + UInt64(bytes.lowerBound)
            return try unsafe GuestRAM(
                BlockGeometry(
                    name: name, lengthBytes: UInt64(bytes.count), hostPage: HostMemory.pageSize),
                mapping: HostAddress(rawValue: start))
        }

        /// Keeps the place, so that nobody else maps theirs there, and nothing in it.
        func withdraw() {
            _ = unsafe mprotect(
                UnsafeMutableRawPointer(bitPattern: UInt(address.rawValue)), Self.lengthBytes,
                PROT_NONE)
        }

        func unmap() {
            _ = unsafe munmap(
                UnsafeMutableRawPointer(bitPattern: UInt(address.rawValue)), Self.lengthBytes)
        }
    }

    @Test(
        "memory of its own moves to memory of its own, private or shared",
        arguments: [
            (MAP_PRIVATE, MAP_PRIVATE), (MAP_SHARED, MAP_SHARED), (MAP_PRIVATE, MAP_SHARED),
        ])
    func moved(from: Int32, to: Int32) throws {
        let (here, there) = (try Mapping(from), try Mapping(to))
        defer {
            here.unmap()
            there.unmap()
        }
        for hasPrecopy in [false, true] {
            let (source, guest) = try Self.ends(here, there, hasPrecopy: hasPrecopy)
            try source.ended().get()
            #expect(eventually { guest.isRunning && guest.wrongPages == 0 })
        }
        // It is still this test's.
        #expect(try there.block().loadWord(at: 0) != 0)
    }

    /// A migration that is under way between two mappings.
    private static func ends(
        _ here: Mapping, _ there: Mapping, hasPrecopy: Bool
    ) throws -> (MigrationSource, SampleGuest) {
        let from = SampleGuest([try here.block()])
        from.fill()
        from.resume()
        let to = SampleGuest([try there.block()])
        var options = MigrationOptions()
        if hasPrecopy { options.precopy = PrecopyOptions() }
        let source = try MigrationSource(guest: from, options: options)
        if !hasPrecopy { source.startPostcopy() }
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try MigrationDestination(guest: to, options: options).start(on: listener)
        try source.start(to: address)
        return (source, to)
    }

    @Test("memory that was withdrawn before the start is refused there")
    func withdrawn() throws {
        let mapping = try Mapping(MAP_PRIVATE)
        defer { mapping.unmap() }
        let guest = SampleGuest([try mapping.block()])
        let source = try MigrationSource(guest: guest)
        let destination = try MigrationDestination(guest: SampleGuest([try mapping.block()]))
        mapping.withdraw()
        let start = mapping.address.rawValue
        let refusal = StartRefusal.memory(
            .givenMapping(block: "given", .notReadableAndWritable, atAddress: start))
        #expect(throws: refusal) { try source.start(to: .unix(path: "/nowhere")) }
        #expect(throws: refusal) {
            try destination.start(on: Listener(at: .tcp(host: "127.0.0.1", port: 0)))
        }
        #expect(refusal.description.contains("map it with both"))
    }

    @Test("memory that a migration has is refused whichever block describes it")
    func sameAddresses() throws {
        let mapping = try Mapping(MAP_PRIVATE)
        defer { mapping.unmap() }
        let half = Mapping.lengthBytes / 2
        let page = Int(HostMemory.pageSize.bytes)
        let low = try MigrationDestination(guest: SampleGuest([mapping.block("low", 0..<half)]))
        let whole = try MigrationSource(guest: SampleGuest([mapping.block()]))
        let last = try MigrationSource(
            guest: SampleGuest([mapping.block("last", half - page..<half)]))
        let high = try MigrationSource(
            guest: SampleGuest([mapping.block("high", half..<Mapping.lengthBytes)]))
        let nowhere = ChannelAddress.unix(path: "/nowhere")
        try low.start(on: Listener(at: .tcp(host: "127.0.0.1", port: 0)))
        #expect(throws: StartRefusal.memoryInUse(block: "given")) { try whole.run(to: nowhere) }
        #expect(throws: StartRefusal.memoryInUse(block: "last")) { try last.run(to: nowhere) }
        #expect(try high.run(to: nowhere).status == .failed)
        #expect(try low.endedByCancel().status == .cancelled)
        #expect(try whole.run(to: nowhere).status == .failed)
        #expect(try last.run(to: nowhere).status == .failed)
    }

    @Test("blocks of one guest that share memory are refused by name")
    func overlapping() throws {
        let mapping = try Mapping(MAP_PRIVATE)
        defer { mapping.unmap() }
        let (half, page) = (Mapping.lengthBytes / 2, Int(HostMemory.pageSize.bytes))
        let high = try mapping.block("high", half..<Mapping.lengthBytes)
        let beside = try mapping.block("beside", 0..<half)
        let over = try mapping.block("over", page..<half + page)
        _ = try MigrationSource(guest: SampleGuest([high, beside]))
        #expect(throws: ConfigurationError.overlappingBlocks("over", "high")) {
            try MigrationSource(guest: SampleGuest([high, over]))
        }
        #expect(throws: ConfigurationError.overlappingBlocks("over", "high")) {
            try MigrationDestination(guest: SampleGuest([over, high]))
        }
    }

    @Test("memory that a destination loses while pages come is noticed, and ends nothing else")
    func lost() throws {
        let mapping = try Mapping(MAP_PRIVATE, place: 3 << 44)
        var sends = MigrationOptions()
        sends.maxPostcopyBandwidth = 1 << 20
        sends.recovery.mode = .none
        var receives = MigrationOptions()
        receives.recovery.mode = .none
        let block = try mapping.block()
        let source: MigrationSource
        do {
            let from = SampleGuest([try GuestRAM(block.geometry, backing: .anonymous)])
            from.fill()
            from.resume()
            source = try MigrationSource(guest: from, options: sends)
        }
        let destination = try MigrationDestination(guest: SampleGuest([block]), options: receives)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try destination.start(on: listener)
        source.startPostcopy()
        try source.start(to: address)
        #expect(eventually { destination.progress.backgroundPages > 4 })
        mapping.unmap()
        let received = try destination.ended()
        #expect(received.status == .postcopyPaused, "\(received.status)")
        #expect(received.problem != nil)
        #expect(throws: MigrationFailure.self) { try received.get() }
        _ = try source.ended()
        try destination.abandonGuest()
    }
}
