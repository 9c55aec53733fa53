internal import Postcopy

/// What one row of an inspection counts, by RAM block in the order of the block list.
struct BlockTally {
    struct Count {
        /// Target pages with content, and of zeros.
        fileprivate(set) var normal: UInt64 = 0
        fileprivate(set) var zero: UInt64 = 0
        /// Pages, discarded ranges or requests.
        fileprivate(set) var pieces: UInt64 = 0
        fileprivate(set) var bytes: UInt64 = 0
        /// Stretches of pieces without a gap.
        fileprivate(set) var runs: UInt64 = 0
        fileprivate(set) var from = UInt64.max
        fileprivate(set) var to: UInt64 = 0
    }

    private var counts: [Count]
    private var lastBlock: Int?
    private var lastEnd: UInt64 = 0

    init(blockCount: Int) { counts = Array(repeating: Count(), count: blockCount) }

    var isEmpty: Bool { lastBlock == nil }

    mutating func add(_ page: InspectedPage) {
        add(page.block, page.offset, PageSize.target.bytes)
        if page.isZero {
            counts[page.block.rawValue].zero += 1
        } else {
            counts[page.block.rawValue].normal += 1
        }
    }

    mutating func add(_ block: BlockIndex, _ offset: RAMOffset, _ lengthBytes: UInt64) {
        let index = block.rawValue
        if !continues(block, offset) { counts[index].runs += 1 }
        counts[index].pieces += 1
        counts[index].bytes += lengthBytes
        counts[index].from = min(counts[index].from, offset.rawValue)
        counts[index].to = max(counts[index].to, offset.rawValue + lengthBytes)
        lastBlock = index
        lastEnd = offset.rawValue + lengthBytes
    }

    /// Whether `offset` lies right behind what was added last.
    func continues(_ block: BlockIndex, _ offset: RAMOffset) -> Bool {
        block.rawValue == lastBlock && offset.rawValue == lastEnd
    }

    /// The figures of the blocks that were named at all.
    func figures(
        _ names: [String], _ make: (String, Count) -> InspectedBlock
    ) -> [InspectedBlock] {
        zip(names, counts).filter { $1.pieces > 0 }.map(make)
    }
}

extension InspectedBlock {
    static func pages(_ name: String, _ count: BlockTally.Count) -> InspectedBlock {
        InspectedBlock(
            name: name, normal: count.normal, zero: count.zero, runs: count.runs,
            from: count.from, to: count.to)
    }

    static func ranges(_ name: String, _ count: BlockTally.Count) -> InspectedBlock {
        InspectedBlock(
            name: name, bytes: count.bytes, ranges: count.pieces, from: count.from, to: count.to)
    }

    static func requests(_ name: String, _ count: BlockTally.Count) -> InspectedBlock {
        InspectedBlock(
            name: name, bytes: count.bytes, requests: count.pieces, from: count.from, to: count.to)
    }
}
