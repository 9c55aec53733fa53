import PageModel

extension StreamDecoder {
    /// Layout: word: u64, the bytes of all listed blocks with MEM_SIZE in its low bits.
    /// Source: `ram_save_setup`, `parse_ramblocks` (`migration/ram.c`).
    mutating func decodeMemorySize(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let word = try cursor.u64(in: bytes)
        let flags = word & RAMFlags.mask
        guard flags == RAMFlags.memorySize else {
            switch flags & ~RAMFlags.continueBlock {
            case RAMFlags.page, RAMFlags.zero, RAMFlags.endOfSection:
                throw cursor.refusal(.misplaced(.ramRecordBeforeBlockList))
            default: throw cursor.refusal(.badPageFlags(flags))
            }
        }
        let total = word & ~RAMFlags.mask
        guard total > 0 else {
            throw cursor.refusal(.blockListTotalMismatch(totalBytes: total))
        }
        let ours = records.blocks.totalBytes
        guard total <= ours else {
            throw cursor.refusal(.memoryTooLarge(ours: ours, theirs: total))
        }
        stage = .blockList(totalBytes: total, remainingBytes: total, count: 0)
        return .memorySize(totalBytes: total)
    }

    /// Reads one entry, so that a list of any length asks for 272 bytes at a time. It ends when
    /// the lengths make up the total. Each of our blocks counts once, and a total is never more
    /// than theirs: the list cannot be longer than ours. It may be shorter.
    ///
    /// Layout: name (length: u8; bytes); length in bytes: u64; and only for a block whose host
    /// page is not `basePage`, page size: u64.
    /// Source: `parse_ramblock` (`migration/ram.c`).
    mutating func decodeListEntry(
        totalBytes: UInt64, remainingBytes: UInt64, count: Int,
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let blocks = records.blocks
        let block = try blocks.block(at: &cursor, in: bytes)
        if listed[block] { throw cursor.refusal(.repeatedBlock(blocks.text(block))) }
        let theirs = try cursor.u64(in: bytes)
        let ours = blocks.lengthsBytes[block]
        guard theirs == ours else {
            throw cursor.refusal(
                .blockLengthMismatch(block: blocks.text(block), ours: ours, theirs: theirs))
        }
        guard ours <= remainingBytes else {
            throw cursor.refusal(.blockListTotalMismatch(totalBytes: totalBytes))
        }
        let page = blocks.hostPages[block]
        if page != basePage {
            let size = try cursor.u64(in: bytes)
            guard size == page.bytes else {
                throw cursor.refusal(
                    .blockPageSizeMismatch(
                        block: blocks.text(block), ours: page.bytes, theirs: size))
            }
        }
        listed[block] = true
        guard ours == remainingBytes else {
            stage = .blockList(
                totalBytes: totalBytes, remainingBytes: remainingBytes - ours,
                count: count + 1)
            return .blockListed(BlockIndex(rawValue: block))
        }
        stage = .records(last: false)
        return .blockList(count: count + 1)
    }
}
