internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// A part of a block that one huge page can map.
struct HugeRange: Sendable {
    let block: BlockIndex
    let offset: RAMOffset
}

/// The order in which the guest first missed a page of each huge range: what it touches first is
/// worth rebuilding first.
///
/// The fault thread notes; once it has ended, others ask. One entry for each range bounds it.
final class FirstFaults: Sendable {
    private let blocks: [Block]
    private let size: PageSize
    private let order = Mutex<[HugeRange]>([])

    private struct Block {
        let geometry: BlockGeometry
        let ranges: PageBitmap
    }

    /// `nil` on a host without transparent huge pages.
    init?(of memory: [GuestRAM]) {
        guard let size = HostMemory.hugePageSize else { return nil }
        self.size = size
        blocks = memory.map { ram in
            // hugetlb has nothing to be rebuilt, nor has the rest behind the last whole range; and
            // what others map too is not this migration's.
            let isLeft = ram.backing == .hugetlb || ram.isShared
            let lengthBytes = isLeft ? 0 : ram.geometry.lengthBytes
            return Block(
                geometry: ram.geometry,
                ranges: PageBitmap(pageCount: Int(lengthBytes >> UInt64(size.shift)), allSet: false)
            )
        }
    }

    func note(_ page: HostPage) {
        let block = blocks[page.block.rawValue]
        let range = Int(block.geometry.offset(of: page.page).rawValue >> UInt64(size.shift))
        guard range < block.ranges.pageCount, !block.ranges.contains(range) else { return }
        block.ranges.insert(range)
        order.withLock { $0.append(place(range, of: page.block)) }
    }

    /// Every range: first those that faulted, in that order, then the others by place.
    func ranges() -> [HugeRange] {
        var all = order.withLock { $0 }
        for (index, block) in blocks.enumerated() {
            for range in 0..<block.ranges.pageCount where !block.ranges.contains(range) {
                all.append(place(range, of: BlockIndex(rawValue: index)))
            }
        }
        return all
    }

    private func place(_ range: Int, of block: BlockIndex) -> HugeRange {
        HugeRange(block: block, offset: RAMOffset(rawValue: UInt64(range) << UInt64(size.shift)))
    }
}
