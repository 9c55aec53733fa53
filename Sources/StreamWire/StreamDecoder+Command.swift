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
        if let misplacement = misplacement(of: known) {
            throw cursor.refusal(.misplaced(misplacement), at: numberField)
        }
        if known == .enableColo {
            throw cursor.refusal(.unsupportedCommand(number), at: numberField)
        }
        return .command(try decodePayload(of: known, length: length, at: &cursor, in: bytes))
    }

    /// What is wrong with a command on this link, whatever it says.
    private func misplacement(of command: CommandNumber) -> WireError.Misplacement? {
        switch command {
        case .openReturnPath, .ping, .postcopyAdvise, .postcopyListen, .postcopyRun, .discard,
            .packaged, .enableColo, .switchoverStart:
            nil
        case .postcopyResume, .receivedBitmap: terms.isResumed ? nil : .recoveryOnFirstLink
        case .hello: terms.acceptsExtensions ? nil : .helloNotAgreed
        case .heartbeat: terms.acceptsExtensions ? nil : .heartbeatNotAgreed
        }
    }

    private mutating func decodePayload(
        of command: CommandNumber, length: UInt16, at cursor: inout WireCursor,
        in bytes: Span<UInt8>
    ) throws(Interruption) -> Command {
        switch command {
        case .openReturnPath: .openReturnPath
        case .ping: .ping(try cursor.u32(in: bytes))
        case .postcopyAdvise:
            .postcopyAdvise(
                pageSizeSummary: try cursor.u64(in: bytes),
                targetPageBytes: try cursor.u64(in: bytes))
        case .postcopyListen: .postcopyListen
        case .postcopyRun: .postcopyRun
        case .discard: .discard(try decodeDiscard(length: length, at: &cursor, in: bytes))
        case .packaged: try decodePackaged(at: &cursor, in: bytes)
        case .switchoverStart: .switchoverStart
        case .receivedBitmap:
            .receivedBitmap(block: try decodeBlock(length: length, at: &cursor, in: bytes))
        case .postcopyResume: .postcopyResume
        case .hello: .hello(try ChannelHello.decodePayload(at: &cursor, in: bytes))
        case .heartbeat: .heartbeat
        case .enableColo: preconditionFailure("refused before its payload")
        }
    }

    /// Layout: name (length: u8; bytes), as long as the payload; the length is the last field read.
    /// Source: `loadvm_handle_recv_bitmap` (`migration/savevm.c`).
    private func decodeBlock(
        length: UInt16, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> BlockIndex {
        guard UInt16(try cursor.peek(in: bytes)) == length - 1 else {
            throw cursor.refusal(
                .badCommandLength(
                    command: CommandNumber.receivedBitmap.rawValue, lengthBytes: length))
        }
        let block = try records.blocks.block(at: &cursor, in: bytes)
        guard records.blocks.endsBytes[block] > 0 else {
            throw cursor.refusal(.bitmapOfIgnoredBlock(block: records.blocks.text(block)))
        }
        return BlockIndex(rawValue: block)
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
        guard length <= terms.packageBytesMax else {
            throw cursor.refusal(.packageTooLong(length, maximum: terms.packageBytesMax))
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
