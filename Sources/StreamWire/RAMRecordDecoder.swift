import PageModel

/// Reads the records of one channel: of the preempt channel, which has no head and no sections,
/// or of a section's body inside `StreamDecoder`.
///
/// It remembers the block that the channel named last, across sections.
/// Source: `ram_load_postcopy`, `ram_block_from_stream` (`migration/ram.c`).
public struct RAMRecordDecoder: Sendable {
    var blocks: BlockTable
    private var lastBlock: Int?
    private let acceptsHeartbeats: Bool

    /// - Parameter acceptsHeartbeats: whether both sides agreed on `Extensions.recovery`.
    /// - Precondition: no two blocks have the same name.
    public init(blocks: [ListedBlock], acceptsHeartbeats: Bool = false) {
        self.blocks = BlockTable(blocks)
        self.acceptsHeartbeats = acceptsHeartbeats
    }

    /// Decodes the record that begins at `start` of `bytes`, which is byte `position` of the
    /// channel. Nothing changes when it throws or asks for more.
    ///
    /// Blocking: no. Allocates: no, except to refuse.
    public mutating func next(
        in bytes: Span<UInt8>, from start: Int, position: UInt64
    ) throws(WireError) -> Decoded<RAMRecord> {
        var cursor = WireCursor(start: start, end: bytes.count, position: position)
        do throws(Interruption) {
            let word = try cursor.u64(in: bytes)
            let record = try decode(word, at: &cursor, in: bytes)
            return .item(record, consumed: cursor.consumed)
        } catch {
            return try Decoded(interruption: error)
        }
    }

    /// The refusal for a preempt channel that was closed with `unread` bytes left behind byte
    /// `position`. Between records a close is proper: only machines up to 7.2 send an end first.
    public static func endOfInput(unread: Int, position: UInt64) -> WireError? {
        guard unread > 0 else { return nil }
        return WireError(
            kind: .truncated(reading: .ramRecord), position: position + UInt64(unread))
    }

    /// Decodes what stands behind a record's word, which was the last field read.
    mutating func decode(
        _ word: UInt64, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> RAMRecord {
        let wordField = cursor.field
        let flags = word & RAMFlags.mask
        if flags == RAMFlags.endOfSection { return .endOfSection }
        let content = flags & ~RAMFlags.continueBlock
        guard content == RAMFlags.page || content == RAMFlags.zero else {
            if word == RAMFlags.heartbeat {
                if acceptsHeartbeats { return .heartbeat }
                throw cursor.refusal(.misplaced(.heartbeatNotAgreed))
            }
            throw cursor.refusal(
                flags == RAMFlags.memorySize
                    ? .misplaced(.blockListOnPreemptChannel) : .badPageFlags(flags))
        }
        let block = try block(flags: flags, at: &cursor, in: bytes)
        let offset = word & ~RAMFlags.mask
        guard offset < blocks.endsBytes[block] else {
            throw cursor.refusal(blocks.fault(ofPageAt: offset, block: block), at: wordField)
        }
        let index = BlockIndex(rawValue: block)
        if content == RAMFlags.page {
            let first = try cursor.take(Int(PageSize.target.bytes))
            lastBlock = block
            return .page(
                block: index, offset: RAMOffset(rawValue: offset),
                payload: first..<first + Int(PageSize.target.bytes))
        }
        let fill = try cursor.u8(in: bytes)
        guard fill == 0 else { throw cursor.refusal(.nonZeroFill(fill)) }
        lastBlock = block
        return .zeroPage(block: index, offset: RAMOffset(rawValue: offset))
    }

    private func block(
        flags: UInt64, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> Int {
        guard flags & RAMFlags.continueBlock != 0 else {
            return try blocks.block(at: &cursor, in: bytes)
        }
        guard let lastBlock else { throw cursor.refusal(.continueWithoutBlock) }
        return lastBlock
    }
}
