import PageModel

extension StreamDecoder {
    /// Reads the word that begins the body of the section's start.
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
        return try beginBlockList(word, isInLastPart: false, at: cursor)
    }

    /// Takes the word of a list, the last field read. A list may come again in any part, when a block
    /// got another used length; whether it still may is not decided here.
    ///
    /// Layout: word: u64, the bytes of all listed blocks with MEM_SIZE in its low bits.
    /// Source: `ram_save_setup`, `ram_load_precopy`, `parse_ramblocks` (`migration/ram.c`).
    mutating func beginBlockList(
        _ word: UInt64, isInLastPart: Bool, at cursor: WireCursor
    ) throws(Interruption) -> StreamItem {
        if terms.isResumed { throw cursor.refusal(.misplaced(.blockListOnResumedLink)) }
        let total = word & ~RAMFlags.mask
        guard total > 0 else {
            throw cursor.refusal(.blockListTotalMismatch(totalBytes: total))
        }
        // A total that is not ours shows in an entry, which says more.
        for index in isInList.indices { isInList[index] = false }
        stage = .blockList(
            BlockListProgress(
                totalBytes: total, remainingBytes: total, isInLastPart: isInLastPart))
        return .memorySize(totalBytes: total)
    }

    /// Reads one entry, so that a list of any length asks for 280 bytes at a time. It ends when
    /// the lengths make up the total. Each of our blocks counts once, with one byte or more: the
    /// list cannot be longer than ours. It may be shorter.
    ///
    /// Layout: name (length: u8; bytes); used length in bytes: u64; only for a block whose host
    /// page is not `basePage`, page size: u64; only with `ignoresShared`, guest address: u64.
    /// Source: `parse_ramblock` (`migration/ram.c`).
    mutating func decodeListEntry(
        _ progress: BlockListProgress, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        if try cursor.peek(in: bytes) == 0 {
            // No name is empty, and no page size fills eight bytes.
            let word = try cursor.u64(in: bytes)
            try refusePageSize(word, of: progress.lastBlock, at: cursor)
            throw cursor.refusal(.unknownBlock(""))
        }
        let block = try records.blocks.block(at: &cursor, in: bytes)
        let ours = records.blocks.blocks[block]
        let name = ours.geometry.name
        if isInList[block] { throw cursor.refusal(.repeatedBlock(name)) }
        let length = try cursor.u64(in: bytes)
        if let fault = ours.fault(ofLength: length) { throw cursor.refusal(fault) }
        guard length <= progress.remainingBytes else {
            throw cursor.refusal(.blockListTotalMismatch(totalBytes: progress.totalBytes))
        }
        let page = ours.geometry.hostPage
        if page != terms.basePage {
            let size = try cursor.u64(in: bytes)
            guard size == page.bytes else {
                // What is no size at all is the next field: the source has ordinary pages.
                let theirs = PageSize(bytes: size) ?? terms.basePage
                throw cursor.refusal(
                    .blockPageSizeMismatch(block: name, ours: page.bytes, theirs: theirs.bytes))
            }
        }
        if terms.ignoresShared {
            let (ours, theirs) = (ours.guestPhysicalAddress, try cursor.u64(in: bytes))
            guard theirs == ours else {
                throw cursor.refusal(
                    .blockAddressMismatch(block: name, ours: ours, theirs: theirs))
            }
        }
        return take(block, lengthBytes: length, of: progress)
    }

    /// Refuses a page size where none is due: behind the entry of a block that has ordinary pages here.
    func refusePageSize(
        _ word: UInt64, of block: Int?, at cursor: WireCursor
    ) throws(Interruption) {
        guard let block, let theirs = PageSize(bytes: word) else { return }
        let geometry = records.blocks.blocks[block].geometry
        throw cursor.refusal(
            .blockPageSizeMismatch(
                block: geometry.name, ours: geometry.hostPage.bytes, theirs: theirs.bytes))
    }

    private mutating func take(
        _ block: Int, lengthBytes: UInt64, of before: BlockListProgress
    ) -> StreamItem {
        listed[block] = true
        isInList[block] = true
        records.blocks.resize(block, to: lengthBytes)
        var progress = before
        progress.remainingBytes -= lengthBytes
        progress.lastBlock = block
        guard progress.remainingBytes == 0 else {
            stage = .blockList(progress)
            return .blockListed(BlockIndex(rawValue: block))
        }
        stage = .records(last: progress.isInLastPart, listed: block)
        return .blockList(count: listed.count { $0 })
    }
}
