internal import Postcopy

/// Which target pages of a guest the channels of a migration brought, in the order in which they were
/// read.
struct MemoryCoverage {
    private struct Block {
        let name: String
        let pageBytes: UInt64
        var lengthBytes: UInt64
        var normal: UInt64 = 0
        var zero: UInt64 = 0
        var discarded: UInt64 = 0
        /// Pages whose last content came, and pages that were discarded and came no more.
        var present: PageBitmap?
        var owed: PageBitmap?
        /// Pages that came on the link that resumed the migration last.
        var resumed: PageBitmap?

        mutating func trackNothing() { (present, owed, resumed) = (nil, nil, nil) }
    }

    /// Two bits for each page, or three: 96 MiB for the terabyte that is tracked at most. A stream of a few bytes
    /// may claim any size.
    static let trackedBytesMax: UInt64 = 1 << 40

    private var blocks: [Block]

    init(_ listed: [ListedPages]) {
        blocks = listed.map { Block(name: $0.name, pageBytes: $0.pageBytes, lengthBytes: 0) }
        for (index, block) in listed.enumerated() { resize(index, to: block.lengthBytes) }
    }

    /// A block as it was listed first.
    struct ListedPages {
        let name: String
        let lengthBytes: UInt64
        let pageBytes: UInt64
    }

    /// Gives a block another length; what it had stays.
    mutating func resize(_ index: Int, to lengthBytes: UInt64) {
        guard lengthBytes != blocks[index].lengthBytes else { return }
        blocks[index].lengthBytes = lengthBytes
        let total = blocks.reduce(UInt64(0)) { $0 &+ $1.lengthBytes }
        guard total <= Self.trackedBytesMax, lengthBytes <= Self.trackedBytesMax else {
            for index in blocks.indices { blocks[index].trackNothing() }
            return
        }
        let pageCount = Int(lengthBytes / PageSize.target.bytes)
        blocks[index].present = Self.copy(blocks[index].present, pageCount: pageCount)
        blocks[index].owed = Self.copy(blocks[index].owed, pageCount: pageCount)
    }

    /// Takes a page in; answers whether it was there already.
    mutating func bring(_ page: InspectedPage) -> Bool {
        let index = page.block.rawValue
        if page.isZero { blocks[index].zero += 1 } else { blocks[index].normal += 1 }
        let number = Int(page.offset.rawValue / PageSize.target.bytes)
        guard let present = blocks[index].present, number < present.pageCount else {
            return false
        }
        blocks[index].owed?.remove(number)
        let wasThere = !present.insert(number)
        guard let resumed = blocks[index].resumed else { return wasThere }
        return !resumed.insert(number)
    }

    /// Begins with a link that resumes: nobody knows here what had arrived of the one before.
    mutating func beginLink() {
        for index in blocks.indices {
            blocks[index].resumed = blocks[index].present.map {
                PageBitmap(pageCount: $0.pageCount, allSet: false)
            }
        }
    }

    mutating func discard(_ block: BlockIndex, _ range: Range<UInt64>) {
        let index = block.rawValue
        let pages =
            range.lowerBound / PageSize.target.bytes..<range.upperBound / PageSize.target.bytes
        blocks[index].discarded += UInt64(pages.count)
        guard let present = blocks[index].present, let owed = blocks[index].owed,
            pages.upperBound <= present.pageCount
        else { return }
        present.remove(Int(pages.lowerBound)..<Int(pages.upperBound))
        owed.insert(Int(pages.lowerBound)..<Int(pages.upperBound))
    }

    /// Pages that were discarded and came no more.
    var owedPages: Int { blocks.reduce(0) { $0 + ($1.owed?.setCount ?? 0) } }

    /// Pages that never came and were not discarded.
    var absentPages: Int { figures.reduce(0) { $0 + Int($1.absent) } }

    var figures: [InspectedMemory] {
        blocks.map { block in
            let owed = block.owed?.setCount ?? 0
            let pages = block.present?.pageCount ?? 0
            return InspectedMemory(
                name: block.name, bytes: block.lengthBytes, pageSize: block.pageBytes,
                normal: block.normal, zero: block.zero, discarded: block.discarded,
                owed: UInt64(owed), absent: UInt64(pages - owed - (block.present?.setCount ?? 0)))
        }
    }

    private static func copy(_ bits: PageBitmap?, pageCount: Int) -> PageBitmap {
        let copy = PageBitmap(pageCount: pageCount, allSet: false)
        var start = 0
        while let run = bits?.nextRun(from: start), run.lowerBound < pageCount {
            copy.insert(run.lowerBound..<min(run.upperBound, pageCount))
            start = run.upperBound
        }
        return copy
    }
}
