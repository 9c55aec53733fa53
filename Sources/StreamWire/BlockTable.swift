import PageModel

/// Our RAM blocks as the wire sees them: names as bytes, so that no page needs a string.
struct BlockTable: Sendable {
    private let names: [[UInt8]]
    let lengthsBytes: [UInt64]
    let hostPages: [PageSize]
    let totalBytes: UInt64

    /// - Precondition: no two blocks have the same name.
    init(_ blocks: [BlockGeometry]) {
        names = blocks.map { Array($0.name.utf8) }
        precondition(Set(names).count == names.count, "two RAM blocks have the same name")
        lengthsBytes = blocks.map(\.lengthBytes)
        hostPages = blocks.map(\.hostPage)
        totalBytes = lengthsBytes.reduce(0, +)
    }

    var count: Int { names.count }

    /// The wire's name of a block.
    func name(of block: BlockIndex) -> [UInt8] { names[block.rawValue] }

    /// The name of a block, for a refusal.
    func text(_ block: Int) -> String { String(decoding: names[block], as: UTF8.self) }

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

    /// What is wrong with a range that must be whole host pages inside a block.
    enum RangeFault { case empty, misaligned, outside }

    /// Judges a range that the peer asks for; never overflows.
    func fault(
        ofRangeAt start: UInt64, lengthBytes length: UInt64, block: Int
    ) -> RangeFault? {
        if length == 0 { return .empty }
        let page = hostPages[block]
        if !page.divides(start) || !page.divides(length) { return .misaligned }
        let end = lengthsBytes[block]
        if start > end || length > end - start { return .outside }
        return nil
    }
}
