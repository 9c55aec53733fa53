import PageModel

extension StreamDecoder {
    /// Layout: number: u16; payload length: u16; payload. The byte 0x08 has been read.
    /// Source: `loadvm_process_command` (`migration/savevm.c`).
    mutating func decodeCommand(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let number = try cursor.u16(in: bytes)
        guard let known = CommandNumber(rawValue: number) else {
            throw cursor.refusal(.unknownCommand(number))
        }
        let numberField = cursor.field
        let length = try cursor.u16(in: bytes)
        guard known.allows(lengthBytes: length) else {
            if known == .postcopyAdvise && length == 0 {
                throw cursor.refusal(.unsupportedCommand(number))
            }
            throw cursor.refusal(.badCommandLength(command: number, lengthBytes: length))
        }
        let command: Command
        switch known {
        case .openReturnPath: command = .openReturnPath
        case .ping: command = .ping(try cursor.u32(in: bytes))
        case .postcopyAdvise:
            command = .postcopyAdvise(
                pageSizeSummary: try cursor.u64(in: bytes),
                targetPageBytes: try cursor.u64(in: bytes))
        case .postcopyListen: command = .postcopyListen
        case .postcopyRun: command = .postcopyRun
        case .discard:
            command = .discard(try decodeDiscard(length: length, at: &cursor, in: bytes))
        case .packaged: command = try decodePackaged(at: &cursor, in: bytes)
        case .switchoverStart: command = .switchoverStart
        case .enableColo, .postcopyResume, .receivedBitmap:
            throw cursor.refusal(.unsupportedCommand(number), at: numberField)
        }
        return .command(command)
    }

    /// Layout: length: u32, of the bytes behind the command.
    /// Source: `loadvm_handle_cmd_packaged` (`migration/savevm.c`).
    private mutating func decodePackaged(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> Command {
        let length = try cursor.u32(in: bytes)
        guard length >= DevicePackage.lengthBytesMin else {
            throw cursor.refusal(.packageTooShort(length))
        }
        guard length <= packageBytesMax else {
            throw cursor.refusal(.packageTooLong(length, maximum: packageBytesMax))
        }
        stage = .package(remainingBytes: length)
        if case .open(let id, _) = section { section = .open(id: id, hasPackage: true) }
        return .packaged(lengthBytes: length)
    }

    /// Layout: version: u8, 0; name (length: u8; bytes); terminator: u8, 0; then ranges.
    /// Source: `loadvm_postcopy_ram_handle_discard` (`migration/savevm.c`).
    private func decodeDiscard(
        length: UInt16, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> DiscardRanges {
        let lengthField = cursor.field
        try cursor.require(Int(length))
        let version = try cursor.u8(in: bytes)
        guard version == 0 else { throw cursor.refusal(.discardBadVersion(version)) }
        let rangesBytes = Int(length) - 3 - Int(try cursor.peek(in: bytes))
        guard rangesBytes >= 0, rangesBytes % DiscardRange.wireBytes == 0 else {
            throw cursor.refusal(
                .badCommandLength(command: CommandNumber.discard.rawValue, lengthBytes: length),
                at: lengthField)
        }
        let block = try records.blocks.block(at: &cursor, in: bytes)
        let terminator = try cursor.u8(in: bytes)
        guard terminator == 0 else {
            throw cursor.refusal(.discardMissingTerminator(terminator))
        }
        guard rangesBytes > 0 else {
            throw cursor.refusal(
                .discardEmpty(block: records.blocks.text(block)), at: lengthField)
        }
        var ranges: [DiscardRange] = []
        ranges.reserveCapacity(rangesBytes / DiscardRange.wireBytes)
        for _ in 0..<rangesBytes / DiscardRange.wireBytes {
            ranges.append(try decodeDiscardRange(of: block, at: &cursor, in: bytes))
        }
        return DiscardRanges(block: BlockIndex(rawValue: block), ranges: ranges)
    }

    /// Layout: start: u64; length: u64, both in bytes of the block. A refusal points to the start.
    private func decodeDiscardRange(
        of block: Int, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> DiscardRange {
        let start = try cursor.u64(in: bytes)
        let startField = cursor.field
        let length = try cursor.u64(in: bytes)
        let blocks = records.blocks
        let kind: WireError.Kind
        switch blocks.fault(ofRangeAt: start, lengthBytes: length, block: block) {
        case nil:
            return DiscardRange(start: RAMOffset(rawValue: start), lengthBytes: length)
        case .ignored: kind = .discardOfIgnoredBlock(block: blocks.text(block))
        case .empty: kind = .discardEmpty(block: blocks.text(block))
        case .misaligned:
            kind = .discardMisaligned(
                block: blocks.text(block), start: start, lengthBytes: length)
        case .outside:
            kind = .discardOutsideBlock(
                block: blocks.text(block), start: start, lengthBytes: length)
        }
        throw cursor.refusal(kind, at: startField)
    }
}

extension DiscardRange {
    /// A start and a length.
    static let wireBytes = 16
}
