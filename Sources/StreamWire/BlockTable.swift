import PageModel

/// Our RAM blocks as the wire sees them: names as bytes, so that no page needs a string.
struct BlockTable: Sendable {
    let blocks: [ListedBlock]
    private let names: [[UInt8]]
    private let hostPages: [PageSize]
    /// Where each block ends for whoever names a part of it: its used length, or 0 when nothing of it
    /// may be named because it is ignored.
    private(set) var endsBytes: [UInt64]

    /// - Precondition: no two blocks have the same name.
    init(_ blocks: [ListedBlock]) {
        self.blocks = blocks
        names = blocks.map { Array($0.geometry.name.utf8) }
        precondition(Set(names).count == names.count, "two RAM blocks have the same name")
        hostPages = blocks.map(\.geometry.hostPage)
        endsBytes = blocks.map { $0.isIgnored ? 0 : $0.usedBytes }
    }

    var count: Int { names.count }

    /// Gives a block the used length that a list named.
    mutating func resize(_ block: Int, to usedBytes: UInt64) {
        if blocks[block].isResizable { endsBytes[block] = usedBytes }
    }

    /// The wire's name of a block.
    func name(of block: BlockIndex) -> [UInt8] { names[block.rawValue] }

    /// The name of a block, for a refusal.
    func text(_ block: Int) -> String { blocks[block].geometry.name }

    /// The block whose name stands at `range`, or `nil`. Compares bytes; allocates nothing.
    func index(of range: Range<Int>, in bytes: Span<UInt8>) -> Int? {
        var index = 0
        while index < names.count {
            if bytes.equals(names[index], at: range) { return index }
            index += 1
        }
        return nil
    }

    /// Reads a name and looks its block up.
    func block(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> Int {
        let name = try cursor.name(in: bytes)
        guard let block = index(of: name, in: bytes) else {
            throw cursor.refusal(.unknownBlock(bytes.text(name)))
        }
        return block
    }

    /// What is wrong with a page that is not below the block's end.
    func fault(ofPageAt offset: UInt64, block: Int) -> WireError.Kind {
        let name = text(block)
        if blocks[block].isIgnored { return .pageOfIgnoredBlock(block: name) }
        return .offsetOutsideBlock(block: name, offset: offset, lengthBytes: endsBytes[block])
    }

    /// What is wrong with a range that must be whole host pages inside a block.
    enum RangeFault { case ignored, empty, misaligned, outside }

    /// Judges a range that the peer asks for; never overflows.
    func fault(
        ofRangeAt start: UInt64, lengthBytes length: UInt64, block: Int
    ) -> RangeFault? {
        let end = endsBytes[block]
        if end == 0 { return .ignored }
        if length == 0 { return .empty }
        let page = hostPages[block]
        if !page.divides(start) || !page.divides(length) { return .misaligned }
        if start > end || length > end - start { return .outside }
        return nil
    }
}
