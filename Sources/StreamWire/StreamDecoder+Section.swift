import PageModel

extension StreamDecoder {
    /// Reads the header of a section, a command, or the end of the stream.
    mutating func decodeBoundary(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let type = try cursor.u8(in: bytes)
        switch type {
        case SectionType.endOfStream:
            stage = .ended
            return .endOfStream
        case SectionType.start:
            return try decodeSectionStart(at: &cursor, in: bytes)
        case SectionType.part, SectionType.end:
            let last = type == SectionType.end
            return try decodeSectionResumed(last: last, at: &cursor, in: bytes)
        case SectionType.full:
            return try decodeDevices(at: &cursor, in: bytes)
        case SectionType.command:
            return try decodeCommand(at: &cursor, in: bytes)
        default:
            throw cursor.refusal(.unknownSectionType(type))
        }
    }

    /// Reads no more than what shows where the first device stands. Its state has no length: behind
    /// the end of `ram` everything is opaque from here on.
    ///
    /// Layout: id: u32; name (length: u8; bytes). The byte 0x04 has been read and stays.
    /// Source: `qemu_savevm_state_complete_precopy` (`migration/savevm.c`).
    private mutating func decodeDevices(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let typeField = cursor.field
        switch section {
        case .ended(_, hasPackage: false):
            stage = .deviceTail
            _ = try cursor.take(cursor.available)
            return .deviceTail(cursor.start..<cursor.start + cursor.consumed)
        case .ended(_, hasPackage: true), .open(_, hasPackage: true):
            throw cursor.refusal(.misplaced(.devicesAfterPackage))
        case .unbound, .open(_, hasPackage: false):
            _ = try cursor.u32(in: bytes)
            let name = bytes.text(try cursor.name(in: bytes))
            throw cursor.refusal(.deviceBeforeMemory(name), at: typeField)
        }
    }

    /// Layout: 0x01; id: u32; name (length: u8; bytes); instance: u32; version: u32.
    /// Source: `qemu_loadvm_section_start_full` (`migration/savevm.c`).
    private mutating func decodeSectionStart(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let typeField = cursor.field
        let id = try cursor.u32(in: bytes)
        guard id != 0 else { throw cursor.refusal(.badSectionID(id)) }
        let name = try cursor.name(in: bytes)
        guard bytes.equals(StreamFormat.ramSection, at: name) else {
            throw cursor.refusal(.unknownSection(bytes.text(name)))
        }
        guard section == .unbound else {
            throw cursor.refusal(.misplaced(.secondSectionStart), at: typeField)
        }
        let instance = try cursor.u32(in: bytes)
        guard instance == 0 else { throw cursor.refusal(.badSectionInstance(instance)) }
        let version = try cursor.u32(in: bytes)
        guard version == StreamFormat.ramVersion else {
            throw cursor.refusal(.unsupportedSectionVersion(version))
        }
        section = .open(id: id, hasPackage: false)
        stage = .memorySize
        return .sectionStart(id: id)
    }

    /// Layout: 0x02 or 0x03; id: u32.
    /// Source: `qemu_loadvm_section_part_end` (`migration/savevm.c`).
    private mutating func decodeSectionResumed(
        last: Bool, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        if case .ended = section {
            throw cursor.refusal(.misplaced(.sectionAfterSectionEnd))
        }
        let id = try cursor.u32(in: bytes)
        guard case .open(id, _) = section else { throw cursor.refusal(.unboundSectionID(id)) }
        stage = .records(last: last, listed: nil)
        return .sectionResumed(id: id, last: last)
    }

    /// Reads a record, the record that ends the body together with the footer behind it, or the word
    /// of a list that comes again.
    mutating func decodeRecord(
        last: Bool, behind listed: Int?, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        let word = try cursor.u64(in: bytes)
        // Pages pay for one question here, and the rest for the others.
        if word & (RAMFlags.page | RAMFlags.endOfSection) == 0 {
            switch word & RAMFlags.mask {
            case RAMFlags.memorySize:
                return try beginBlockList(word, isInLastPart: last, at: cursor)
            case 0: try refusePageSize(word, of: listed, at: cursor)
            default: break
            }
        }
        switch try records.decode(word, at: &cursor, in: bytes) {
        case .page(let block, let offset, let payload):
            return .page(block: block, offset: offset, payload: payload)
        case .zeroPage(let block, let offset):
            return .zeroPage(block: block, offset: offset)
        case .endOfSection:
            guard case .open(let id, let hasPackage) = section else {
                preconditionFailure("records stand in an open section")
            }
            try cursor.footer(of: id, in: bytes)
            if last { section = .ended(id: id, hasPackage: hasPackage) }
            stage = .boundary
            return .sectionEnd(id: id)
        case .heartbeat: throw cursor.refusal(.misplaced(.heartbeatNotAgreed))
        }
    }
}

extension WireCursor {
    /// Layout: 0x7e; id: u32, the section's.
    /// Source: `check_section_footer` (`migration/savevm.c`).
    mutating func footer(of id: UInt32, in bytes: Span<UInt8>) throws(Interruption) {
        let marker = try u8(in: bytes)
        guard marker == SectionType.footer else { throw refusal(.badFooter(marker)) }
        let found = try u32(in: bytes)
        guard found == id else { throw refusal(.footerIDMismatch(found, expected: id)) }
    }
}
