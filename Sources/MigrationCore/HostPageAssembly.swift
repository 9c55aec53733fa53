public import PageModel

/// Collects the target pages of one host page, so that it is placed whole. One for each channel.
///
/// The order inside a host page is free; no other host page may come in between. Allocates only when
/// it is made: one bit for each target page of the largest host page, 32 KiB for 1 GiB.
/// Threads: one owner.
///
/// Source: `ram_load_postcopy` and `PostcopyTmpPage` of QEMU (`migration/ram.c`).
public struct HostPageAssembly: ~Copyable, Sendable {
    /// Where a target page belongs, and whether its host page has become whole.
    public enum Outcome: Hashable, Sendable {
        /// More target pages are due; this one goes to this byte of the staging page.
        case incomplete(slotOffsetInHostPage: Int)
        /// This was the last one: with it, at this byte, the host page can be placed.
        case complete(HostPage, slotOffsetInHostPage: Int)
    }

    private let blocks: [BlockGeometry]
    private var current: HostPage?
    private var count = 0
    /// The target pages of `current` that came, all clear while there is none.
    private var words: [UInt64]

    /// An assembly for the blocks of a guest, in the order of the block list.
    public init(blocks: [BlockGeometry]) {
        self.blocks = blocks
        let targetPagesMax = blocks.map(\.hostPage.targetPages).max() ?? 1
        words = Array(repeating: 0, count: (targetPagesMax + 63) / 64)
    }

    /// Whether no host page is unfinished.
    public var isIdle: Bool { current == nil }

    /// Adds the target page at `offset` of `block`; an error leaves the assembly as it was.
    public mutating func add(
        targetPageInBlock offset: RAMOffset, of block: BlockIndex
    ) throws(AssemblyError) -> Outcome {
        let geometry = try geometry(of: block, holding: offset)
        let page = HostPage(block: block, page: geometry.hostPage(containing: offset))
        let slotOffset = Int(offset.rawValue & (geometry.hostPage.bytes - 1))
        if let current, current != page {
            throw .otherHostPage(
                block: block, offset: offset, unfinishedBlock: current.block,
                unfinishedOffset: blocks[current.block.rawValue].offset(of: current.page))
        }
        let targetPages = geometry.hostPage.targetPages
        guard targetPages > 1 else { return .complete(page, slotOffsetInHostPage: 0) }
        let slot = slotOffset >> PageSize.target.shift
        let bit: UInt64 = 1 << UInt64(slot & 63)
        guard words[slot >> 6] & bit == 0 else {
            throw .duplicate(
                block: block, offset: offset, hostPageOffset: geometry.offset(of: page.page))
        }
        words[slot >> 6] |= bit
        current = page
        count += 1
        guard count == targetPages else { return .incomplete(slotOffsetInHostPage: slotOffset) }
        drop()
        return .complete(page, slotOffsetInHostPage: slotOffset)
    }

    /// Forgets an unfinished host page: its channel is gone, and the source sends it again.
    public mutating func drop() {
        guard let current else { return }
        let targetPages = blocks[current.block.rawValue].hostPage.targetPages
        for index in 0..<(targetPages + 63) / 64 { words[index] = 0 }
        self.current = nil
        count = 0
    }

    private func geometry(
        of block: BlockIndex, holding offset: RAMOffset
    ) throws(AssemblyError) -> BlockGeometry {
        guard blocks.indices.contains(block.rawValue) else {
            throw .unknownBlock(block, offset: offset)
        }
        let geometry = blocks[block.rawValue]
        guard PageSize.target.divides(offset.rawValue) else {
            throw .misaligned(block: block, offset: offset)
        }
        guard offset.rawValue < geometry.lengthBytes else {
            throw .outsideBlock(block: block, offset: offset, lengthBytes: geometry.lengthBytes)
        }
        return geometry
    }
}
