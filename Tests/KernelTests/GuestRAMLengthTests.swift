import LinuxKernel
import PageModel
import Testing

@Suite("GuestRAM, its used length")
struct GuestRAMLengthTests {
    private static let page = HostMemory.pageSize.bytes
    private static let small = RAMBacking.allCases.filter { $0 != .hugetlb }

    private func ram(
        pages: UInt64 = 8, used: UInt64? = 3, _ backing: RAMBacking = .anonymous
    ) throws -> GuestRAM {
        let geometry = try BlockGeometry(
            name: "/rom@etc/x", lengthBytes: pages * Self.page, hostPage: HostMemory.pageSize)
        return try GuestRAM(geometry, backing: backing, usedBytes: used.map { $0 * Self.page })
    }

    private func refusal(_ body: () throws(RAMError) -> Void) -> RAMError? {
        do throws(RAMError) { try body() } catch { return error }
        return nil
    }

    @Test("a block is used whole and for good unless it is made otherwise")
    func fixed() throws {
        let ram = try ram(used: nil)
        #expect(ram.usedBytes == 8 * Self.page)
        #expect(!ram.isResizable)
        let error = refusal { () throws(RAMError) in try ram.resize(to: 8 * Self.page) }
        #expect(error == .notResizable(block: "/rom@etc/x"))
        #expect("\(error!)".contains("'/rom@etc/x'"))
    }

    @Test("what a block loses is given back, and comes again as zeros", arguments: small)
    func resize(backing: RAMBacking) throws {
        let ram = try ram(backing)
        #expect(ram.isResizable)
        #expect(ram.usedBytes == 3 * Self.page)
        try ram.resize(to: 8 * Self.page)
        for index in 0..<8 as Range<UInt64> { ram.storeWord(index + 1, at: index * Self.page) }
        try ram.resize(to: 2 * Self.page)
        #expect(ram.usedBytes == 2 * Self.page)
        try ram.resize(to: 8 * Self.page)
        #expect((0..<8).map { ram.loadWord(at: $0 * Self.page) } == [1, 2, 0, 0, 0, 0, 0, 0])
    }

    @Test("lengths that cannot be are refused, change nothing", arguments: [0, 1, 4095, 1 << 40])
    func refused(bytes: UInt64) throws {
        let ram = try ram()
        let error = refusal { () throws(RAMError) in try ram.resize(to: bytes) }
        let text = "\(try #require(error))"
        #expect(text.contains("'/rom@etc/x' cannot have \(bytes) bytes"))
        #expect(ram.usedBytes == 3 * Self.page)
        let geometry = ram.geometry
        #expect(
            refusal { () throws(RAMError) in
                _ = try GuestRAM(geometry, backing: .anonymous, usedBytes: bytes)
            } == error)
    }

    @Test("a frozen length changes only for whoever froze it")
    func frozen() throws {
        let ram = try ram()
        ram.freezeLength()
        let error = refusal { () throws(RAMError) in try ram.resize(to: Self.page) }
        #expect(error == .frozen(block: "/rom@etc/x"))
        #expect("\(error!)".contains("a migration is moving it"))
        try ram.adoptLength(4 * Self.page)
        #expect(ram.usedBytes == 4 * Self.page)
        ram.thawLength()
        try ram.resize(to: Self.page)
        #expect(ram.usedBytes == Self.page)
    }

    @Test("what was gained is told once, also when it was lost in between")
    func changes() throws {
        let ram = try ram()
        func change() -> [UInt64] {
            let change = ram.takeLengthChange()
            return [change.gainedFromBytes / Self.page, change.usedBytes / Self.page]
        }
        #expect(change() == [3, 3])
        try ram.resize(to: 5 * Self.page)
        #expect(change() == [3, 5])
        #expect(change() == [5, 5])
        try ram.resize(to: 2 * Self.page)
        try ram.resize(to: 7 * Self.page)
        #expect(change() == [2, 7])
        try ram.resize(to: 1 * Self.page)
        #expect(change() == [1, 1])
    }
}
