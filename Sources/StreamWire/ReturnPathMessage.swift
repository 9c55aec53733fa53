public import PageModel

/// A message from the destination to the source.
///
/// Layout: type: u16; payload length: u16; payload.
/// Source: `migrate_send_rp_message`, `source_return_path_thread` (`migration/migration.c`).
public enum ReturnPathMessage: Equatable, Sendable {
    /// The last message; 0 when the destination has everything. Type 1; payload: error: u32.
    case shut(UInt32)
    /// The answer to a ping. Type 2; payload: value: u32.
    case pong(UInt32)
    /// Asks for whole host pages of a block. Type 3; payload: start: u64; length: u32; block name
    /// (length: u8; bytes). In the same block as the request before, type 4, without the name.
    case requestPages(block: BlockIndex, start: RAMOffset, lengthBytes: UInt64)
    /// The answer to `Extensions.question`, which no QEMU asks. Type 0x5043; payload: version: u16;
    /// extensions: u32; up to 58 bytes more from a later version, which are ignored.
    case extensions(version: UInt16, Extensions)
    /// Why a SHUT with an error will follow. Type 0x5044; payload: 1 to 400 bytes of UTF-8. The peer's
    /// text: not fit for a terminal as it is.
    case refusalReason(String)
}

/// The messages by number.
///
/// Source: `enum mig_rp_message_type` (`migration/migration.h`); those from 0x5043 on are our own, far
/// from any that QEMU may add.
enum ReturnPathType: UInt16 {
    case shut = 1
    case pong = 2
    case requestPagesOfBlock = 3
    case requestPages = 4
    case receivedBitmap = 5
    case resumeAcknowledged = 6
    case switchoverAcknowledged = 7
    case extensions = 0x5043
    case refusalReason = 0x5044

    /// What a request for pages carries in front of a name: start, length.
    static let requestBytes: UInt16 = 12
}

/// Writes the return path; remembers the block of the last request, and what was offered.
public struct ReturnPathEncoder: Sendable {
    private let blocks: BlockTable
    private var lastBlock: BlockIndex?
    private var hasShut = false
    private var offered: Extensions?
    private var hasReason = false

    /// - Precondition: no two blocks have the same name.
    public init(blocks: [BlockGeometry]) {
        self.blocks = BlockTable(blocks.map { ListedBlock($0) })
    }

    /// Appends one message; a request names its block the first time and when the block changes.
    /// Nothing follows SHUT: it is the last word, and a source that hears more takes it as a breach.
    /// Likewise left out: a second list of extensions, and a reason that is empty, not the first, or of
    /// a destination that did not offer any. A reason that is too long is cut.
    /// - Precondition: a request is for whole host pages inside its block, and below 4 GiB.
    public mutating func append(_ message: ReturnPathMessage, to output: inout [UInt8]) {
        guard !hasShut else { return }
        switch message {
        case .shut(let error):
            hasShut = true
            Self.appendHeader(.shut, lengthBytes: 4, to: &output)
            output.appendBigEndian(error)
        case .pong(let value):
            Self.appendHeader(.pong, lengthBytes: 4, to: &output)
            output.appendBigEndian(value)
        case .requestPages(let block, let start, let length):
            appendRequest(block: block, start: start, lengthBytes: length, to: &output)
        case .extensions(let version, let extensions):
            guard offered == nil else { return }
            offered = extensions
            Self.appendHeader(
                .extensions, lengthBytes: Extensions.listBytes.lowerBound, to: &output)
            output.appendBigEndian(version)
            output.appendBigEndian(extensions.rawValue)
        case .refusalReason(let text): appendReason(text, to: &output)
        }
    }

    private mutating func appendReason(_ text: String, to output: inout [UInt8]) {
        guard offered?.contains(.refusalReason) == true, !hasReason, !text.isEmpty else { return }
        hasReason = true
        let bytes = Extensions.shortened(text)
        Self.appendHeader(.refusalReason, lengthBytes: UInt16(bytes.count), to: &output)
        output += bytes
    }

    /// Names the block again with the next request: for a source that has forgotten it.
    public mutating func forgetBlock() { lastBlock = nil }

    private mutating func appendRequest(
        block: BlockIndex, start: RAMOffset, lengthBytes: UInt64, to output: inout [UInt8]
    ) {
        let fault = blocks.fault(
            ofRangeAt: start.rawValue, lengthBytes: lengthBytes, block: block.rawValue)
        precondition(fault == nil, "a request is for whole host pages inside its block")
        let isNamed = block == lastBlock
        let name = blocks.name(of: block)
        if isNamed {
            Self.appendHeader(
                .requestPages, lengthBytes: ReturnPathType.requestBytes, to: &output)
        } else {
            Self.appendHeader(
                .requestPagesOfBlock,
                lengthBytes: ReturnPathType.requestBytes + 1 + UInt16(name.count), to: &output)
        }
        output.appendBigEndian(start.rawValue)
        output.appendBigEndian(UInt32(lengthBytes))
        if !isNamed { output.appendName(name) }
        lastBlock = block
    }

    private static func appendHeader(
        _ type: ReturnPathType, lengthBytes: UInt16, to output: inout [UInt8]
    ) {
        output.appendBigEndian(type.rawValue)
        output.appendBigEndian(lengthBytes)
    }
}
