import MigrationCore
import PageModel
import Testing
import TestSupport

@Suite("HostPageAssembly")
struct HostPageAssemblyTests {
    static let small = BlockIndex(rawValue: 0)
    static let huge = BlockIndex(rawValue: 1)
    static let middle = BlockIndex(rawValue: 2)

    /// Blocks of 4 KiB, 2 MiB and 64 KiB host pages.
    static func makeBlocks() throws -> [BlockGeometry] {
        let size64KiB = try #require(PageSize(bytes: 65536))
        return [
            try BlockGeometry(name: "pc.ram", lengthBytes: 1 << 20, hostPage: .target),
            try BlockGeometry(name: "mem0", lengthBytes: 8 << 20, hostPage: .size2MiB),
            try BlockGeometry(name: "mem1", lengthBytes: 1 << 20, hostPage: size64KiB),
        ]
    }

    static func offset(_ bytes: UInt64) -> RAMOffset { RAMOffset(rawValue: bytes) }

    @Test("a host page of one target page is whole at once")
    func small() throws {
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        let outcome = try assembly.add(targetPageInBlock: Self.offset(8192), of: Self.small)
        let page = HostPage(block: Self.small, page: HostPageIndex(rawValue: 2))
        #expect(outcome == .complete(page, slotOffsetInHostPage: 0))
        let isIdle = assembly.isIdle
        #expect(isIdle)
    }

    @Test("512 target pages in any order make a host page", arguments: 0..<20 as Range<UInt64>)
    func anyOrder(seed: UInt64) throws {
        var generator = SeededRandom(seed: seed)
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        for hostPage in [3, 0, 2] {
            let page = HostPage(block: Self.huge, page: HostPageIndex(rawValue: hostPage))
            let slots = (0..<512).shuffled(using: &generator)
            for (done, slot) in slots.enumerated() {
                let start = Self.offset(UInt64(hostPage) << 21 + UInt64(slot) << 12)
                let outcome = try assembly.add(targetPageInBlock: start, of: Self.huge)
                let expected: HostPageAssembly.Outcome =
                    done == 511
                    ? .complete(page, slotOffsetInHostPage: slot << 12)
                    : .incomplete(slotOffsetInHostPage: slot << 12)
                try #require(outcome == expected)
                let isIdle = assembly.isIdle
                try #require(isIdle == (done == 511))
            }
        }
    }

    @Test("another host page, of this block or another, is refused while one is unfinished")
    func otherHostPage() throws {
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        _ = try assembly.add(targetPageInBlock: Self.offset(2 << 20), of: Self.huge)
        let others: [(BlockIndex, UInt64)] = [
            (Self.huge, 0), (Self.huge, 4 << 20), (Self.small, 0), (Self.middle, 65536),
        ]
        for (block, bytes) in others {
            let start = Self.offset(bytes)
            #expect(
                throws: AssemblyError.otherHostPage(
                    block: block, offset: start, unfinishedBlock: Self.huge,
                    unfinishedOffset: Self.offset(2 << 20))
            ) { try assembly.add(targetPageInBlock: start, of: block) }
        }
        let outcome = try assembly.add(
            targetPageInBlock: Self.offset(2 << 20 + 4096), of: Self.huge)
        #expect(outcome == .incomplete(slotOffsetInHostPage: 4096))
    }

    @Test("a target page that comes twice is refused, and the count stays true")
    func duplicate() throws {
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        for slot: UInt64 in 0..<15 {
            let start = Self.offset(65536 + slot << 12)
            _ = try assembly.add(targetPageInBlock: start, of: Self.middle)
            #expect(
                throws: AssemblyError.duplicate(
                    block: Self.middle, offset: start, hostPageOffset: Self.offset(65536))
            ) { try assembly.add(targetPageInBlock: start, of: Self.middle) }
        }
        let last = try assembly.add(
            targetPageInBlock: Self.offset(65536 + 15 << 12), of: Self.middle)
        let page = HostPage(block: Self.middle, page: HostPageIndex(rawValue: 1))
        #expect(last == .complete(page, slotOffsetInHostPage: 15 << 12))
    }

    @Test("a page that no block holds is refused")
    func outside() throws {
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        for unknown in [-1, 3, Int.max, Int.min] {
            let block = BlockIndex(rawValue: unknown)
            #expect(throws: AssemblyError.unknownBlock(block, offset: Self.offset(0))) {
                try assembly.add(targetPageInBlock: Self.offset(0), of: block)
            }
        }
        for bytes: UInt64 in [1 << 20, .max - 4095] {
            #expect(
                throws: AssemblyError.outsideBlock(
                    block: Self.small, offset: Self.offset(bytes), lengthBytes: 1 << 20)
            ) { try assembly.add(targetPageInBlock: Self.offset(bytes), of: Self.small) }
        }
        for bytes: UInt64 in [1, 4095, 8193] {
            let error = AssemblyError.misaligned(block: Self.small, offset: Self.offset(bytes))
            #expect(error.description.contains("\(bytes)"))
            #expect(throws: error) {
                try assembly.add(targetPageInBlock: Self.offset(bytes), of: Self.small)
            }
        }
        let isIdle = assembly.isIdle
        #expect(isIdle)
    }

    @Test("a dropped host page begins again from nothing")
    func drop() throws {
        var assembly = HostPageAssembly(blocks: try Self.makeBlocks())
        for slot: UInt64 in 0..<511 {
            _ = try assembly.add(targetPageInBlock: Self.offset(slot << 12), of: Self.huge)
        }
        assembly.drop()
        assembly.drop()
        let isIdle = assembly.isIdle
        #expect(isIdle)
        for slot: UInt64 in 0..<511 {
            let outcome = try assembly.add(
                targetPageInBlock: Self.offset(slot << 12), of: Self.huge)
            try #require(outcome == .incomplete(slotOffsetInHostPage: Int(slot) << 12))
        }
    }

    @Test("a host page of 1 GiB takes its 262,144 target pages")
    func gigabyte() throws {
        let block = try BlockGeometry(name: "big", lengthBytes: 1 << 30, hostPage: .size1GiB)
        var assembly = HostPageAssembly(blocks: [block])
        var early = 0
        for slot: UInt64 in (1..<262_144).reversed() {
            let outcome = try assembly.add(
                targetPageInBlock: Self.offset(slot << 12), of: Self.small)
            if outcome != .incomplete(slotOffsetInHostPage: Int(slot) << 12) { early += 1 }
        }
        #expect(early == 0)
        let last = try assembly.add(targetPageInBlock: Self.offset(0), of: Self.small)
        let page = HostPage(block: Self.small, page: HostPageIndex(rawValue: 0))
        #expect(last == .complete(page, slotOffsetInHostPage: 0))
    }
}
