public import PageModel
public import StreamWire

/// The main channel of a captured migration, and the guest that it speaks of.
public struct CapturedStream: Sendable {
    public let name: String
    public let bytes: [UInt8]
    public let introduction: StreamIntroduction
    public let blocks: [BlockGeometry]

    public init(_ name: String) throws {
        self.name = name
        let bytes = try Vectors.bytes("\(name)/main.bin")
        guard case .item(let found, _) = try StreamIntroduction.decode(bytes.span) else {
            throw Incomplete()
        }
        self.bytes = bytes
        introduction = found
        blocks = try found.blocks.map { block in
            try BlockGeometry(
                name: block.name, lengthBytes: block.usedBytes, hostPage: block.hostPage)
        }
    }

    private struct Incomplete: Error {}

    public var listed: [ListedBlock] { blocks.map { ListedBlock($0) } }

    /// A decoder that stands before the first byte.
    public var decoder: StreamDecoder { StreamDecoder(blocks: listed, machineType: nil) }

    public var guestBytes: Int { blocks.reduce(0) { $0 + Int($1.lengthBytes) } }

    /// Whether the source had postcopy on.
    public var hasPostcopy: Bool { introduction.pageSizeSummary != nil }

    /// Where the items begin, and where the last one ends.
    public func boundaries() throws -> [Int] {
        var decoder = decoder
        var ends = [0]
        while case .item(_, let consumed) = try decoder.next(in: bytes.span, from: ends.last ?? 0) {
            ends.append((ends.last ?? 0) + consumed)
        }
        return ends
    }
}
