public import PageModel

/// One record of a RAM section's body, or of the preempt channel.
///
/// Layout: word: u64, the page's offset in its block with flags in its low 12 bits; then, unless
/// CONTINUE is set, the block's name (length: u8; bytes); then the page's 4096 bytes, or one fill
/// byte for a zero page, or nothing for the end.
/// Source: `save_page_header`, `save_normal_page`, `save_zero_page`, `ram_load_postcopy`
/// (`migration/ram.c`).
public enum RAMRecord: Equatable, Sendable {
    /// A target page; its bytes stand at `payload` of the buffer that was decoded.
    case page(block: BlockIndex, offset: RAMOffset, payload: Range<Int>)
    case zeroPage(block: BlockIndex, offset: RAMOffset)
    /// The end of a section's body; on the preempt channel, of the channel.
    case endOfSection
    /// Our own, on the preempt channel: the source lives, and has nothing else to say. Only its word.
    case heartbeat
}

/// The flags below a record's offset.
///
/// Source: `RAM_SAVE_FLAG_*` (`migration/ram.c`).
enum RAMFlags {
    static let zero: UInt64 = 0x02
    static let memorySize: UInt64 = 0x04
    static let page: UInt64 = 0x08
    static let endOfSection: UInt64 = 0x10
    /// The page is in the block that this channel named last; no name follows.
    static let continueBlock: UInt64 = 0x20
    /// The bits of the word that are flags: those below a target page.
    static let mask: UInt64 = PageSize.target.bytes - 1
    /// The word of a heartbeat, which is our own: no flags, and an offset beyond any block.
    static let heartbeat: UInt64 = 0x5043_4245_4154_0000
}

/// Writes the records of one channel; remembers the block that it named last.
public struct RAMRecordEncoder: Sendable {
    private let blocks: BlockTable
    private var lastBlock: BlockIndex?

    /// The longest header: word, name length, name, fill byte.
    public static let headerBytesMax = 8 + 1 + 255 + 1

    /// - Precondition: no two blocks have the same name.
    public init(blocks: [BlockGeometry]) {
        self.blocks = BlockTable(blocks.map { ListedBlock($0) })
    }

    /// Appends the header of a page; the caller sends the page's 4096 bytes right behind it.
    /// - Precondition: `offset` is a target page's, inside the block.
    public mutating func appendPageHeader(
        block: BlockIndex, offset: RAMOffset, to output: inout [UInt8]
    ) {
        appendHeader(RAMFlags.page, block: block, offset: offset, to: &output)
    }

    /// Appends a page of zeros.
    /// - Precondition: `offset` is a target page's, inside the block.
    public mutating func appendZeroPage(
        block: BlockIndex, offset: RAMOffset, to output: inout [UInt8]
    ) {
        appendHeader(RAMFlags.zero, block: block, offset: offset, to: &output)
        output.append(0)
    }

    /// Names the block again with the next page: for a peer that has forgotten it.
    public mutating func forgetBlock() { lastBlock = nil }

    /// Appends the record that ends a section's body, or the preempt channel.
    public static func appendEndOfSection(to output: inout [UInt8]) {
        output.appendBigEndian(RAMFlags.endOfSection)
    }

    /// Appends a heartbeat, between two records of a preempt channel that may have them.
    public static func appendHeartbeat(to output: inout [UInt8]) {
        output.appendBigEndian(RAMFlags.heartbeat)
    }

    private mutating func appendHeader(
        _ flag: UInt64, block: BlockIndex, offset: RAMOffset, to output: inout [UInt8]
    ) {
        precondition(offset.rawValue & RAMFlags.mask == 0, "a page's offset is aligned")
        precondition(
            offset.rawValue < blocks.endsBytes[block.rawValue], "a page is inside its block")
        if block == lastBlock {
            output.appendBigEndian(offset.rawValue | flag | RAMFlags.continueBlock)
        } else {
            output.appendBigEndian(offset.rawValue | flag)
            output.appendName(blocks.name(of: block))
            lastBlock = block
        }
    }
}
