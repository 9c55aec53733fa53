import PageModel

/// What a link that resumes a migration brings.
extension ReturnPathDecoder {
    var offersRecovery: Bool { offered?.contains(.recovery) == true }

    func decodeAnswer(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        guard offersRecovery else {
            throw cursor.refusal(.misplaced(.recoveryAnswerNotOffered))
        }
        try decodeLength(of: .recoveryAnswer, expected: 4...4, at: &cursor, in: bytes)
        let number = try cursor.u32(in: bytes)
        guard let answer = RecoveryAnswer(rawValue: number) else {
            throw cursor.refusal(.badRecoveryAnswer(number))
        }
        return .recoveryAnswer(answer)
    }

    /// Source: `migrate_handle_rp_resume_ack` (`migration/migration.c`).
    func decodeAcknowledgement(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        guard isResumed else { throw cursor.refusal(.misplaced(.recoveryOnFirstLink)) }
        try decodeLength(of: .resumeAcknowledged, expected: 4...4, at: &cursor, in: bytes)
        let value = try cursor.u32(in: bytes)
        guard value == BitmapFormat.resumeAcknowledged else {
            throw cursor.refusal(.badResumeAcknowledgement(value))
        }
        return .resumeAcknowledged
    }

    /// Reads what stands in front of a bitmap. Its type was read; its bits come in pieces, since there
    /// may be 32 MiB of them for a block of 1 TiB.
    ///
    /// Layout: payload length: u16; block name (length: u8; bytes); bitmap length: u64, uncounted.
    /// Source: `migrate_handle_rp_recv_bitmap` (`migration/migration.c`), `ram_dirty_bitmap_reload`
    /// (`migration/ram.c`).
    mutating func decodeBitmapHeader(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        guard isResumed else { throw cursor.refusal(.misplaced(.recoveryOnFirstLink)) }
        let length = try decodeLength(
            of: .receivedBitmap, expected: 2...256, at: &cursor, in: bytes)
        guard UInt16(try cursor.peek(in: bytes)) == length - 1 else {
            throw cursor.refusal(
                .badMessageLength(
                    message: ReturnPathType.receivedBitmap.rawValue, lengthBytes: length))
        }
        let block = try blocks.block(at: &cursor, in: bytes)
        let usedBytes = blocks.endsBytes[block]
        guard usedBytes > 0 else {
            throw cursor.refusal(.bitmapOfIgnoredBlock(block: blocks.text(block)))
        }
        let progress = BitmapProgress(
            block: block, pageCount: BitmapFormat.pageCount(usedBytes: usedBytes))
        let ours = UInt64(progress.wordCount * BitmapFormat.wordBytes)
        let theirs = try cursor.u64(in: bytes)
        guard theirs == ours else {
            throw cursor.refusal(
                .bitmapLengthMismatch(block: blocks.text(block), ours: ours, theirs: theirs))
        }
        bitmap = progress
        return .receivedBitmap(block: BlockIndex(rawValue: block))
    }

    /// Reads as many words as are there, or the mark behind the last.
    mutating func decodeBitmap(
        _ before: BitmapProgress, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        let block = BlockIndex(rawValue: before.block)
        guard before.nextWord < before.wordCount else {
            let mark = try cursor.u64(in: bytes)
            guard mark == BitmapFormat.endMark else {
                throw cursor.refusal(.bitmapMissingEndMark(mark))
            }
            bitmap = nil
            return .bitmapEnd(block: block)
        }
        try cursor.require(BitmapFormat.wordBytes)
        let count = min(
            cursor.available / BitmapFormat.wordBytes, before.wordCount - before.nextWord)
        let first = try cursor.take(count * BitmapFormat.wordBytes)
        var progress = before
        progress.nextWord += count
        if progress.nextWord == progress.wordCount {
            let word = ReceivedBitmap.word(in: bytes, at: first + (count - 1) * 8)
            let used = progress.pageCount % 64
            guard used == 0 || word >> UInt64(used) == 0 else {
                throw cursor.refusal(
                    .bitmapBeyondBlock(block: blocks.text(before.block)), at: (count - 1) * 8)
            }
        }
        bitmap = progress
        return .bitmapBytes(
            block: block, firstWord: before.nextWord,
            bytes: first..<first + count * BitmapFormat.wordBytes)
    }
}
