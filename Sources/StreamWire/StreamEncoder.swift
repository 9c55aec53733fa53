public import PageModel

/// Writes the main channel at the source, except for pages, which `RAMRecordEncoder` writes.
///
/// Everything is appended, so that the caller may fill one buffer and send it at once.
public enum StreamEncoder {
    /// Layout: see `StreamItem.head`.
    /// Source: `qemu_savevm_state_header` (`migration/savevm.c`).
    /// - Parameter configuration: subsections as another source wrote them (`StreamIntroduction`).
    /// - Precondition: `machineType` is at most 255 bytes long.
    public static func appendHead(
        machineType: String, configuration: [UInt8] = [], ignoresShared: Bool = false,
        to output: inout [UInt8]
    ) {
        let length = UInt32(machineType.utf8.count)
        precondition(length <= StreamFormat.machineTypeBytesMax, "a machine type is a name")
        output.appendBigEndian(StreamFormat.magic)
        output.appendBigEndian(StreamFormat.version)
        output.append(SectionType.configuration)
        output.appendBigEndian(length)
        output.append(contentsOf: machineType.utf8)
        output.append(contentsOf: configuration)
        guard ignoresShared else { return }
        output.append(SectionType.subsection)
        output.appendName(ConfigurationSubsection.capabilities.rawValue.utf8)
        output.appendBigEndian(UInt32(1))
        output.appendBigEndian(UInt32(1))
        output.appendName(StreamFormat.ignoreShared.utf8)
    }

    /// Appends the header of the section `ram`; the block list follows.
    ///
    /// Layout: 0x01; id: u32; name (length: u8; bytes); instance: u32, 0; version: u32, 4.
    /// Source: `save_section_header` (`migration/savevm.c`).
    /// - Precondition: `id` is not 0. It must also differ from all ids inside the package.
    public static func appendSectionStart(id: UInt32, to output: inout [UInt8]) {
        precondition(id != 0, "a section id is not 0")
        output.append(SectionType.start)
        output.appendBigEndian(id)
        output.appendName(StreamFormat.ramSection)
        output.appendBigEndian(UInt32(0))
        output.appendBigEndian(StreamFormat.ramVersion)
    }

    /// Appends the header of a further part, or of the last one; records follow.
    ///
    /// Layout: 0x02, or 0x03 when `last`; id: u32.
    public static func appendSectionResumed(id: UInt32, last: Bool, to output: inout [UInt8]) {
        output.append(last ? SectionType.end : SectionType.part)
        output.appendBigEndian(id)
    }

    /// Appends the record that ends a section's body, and the footer behind it.
    ///
    /// Layout: 0x10: u64; 0x7e; id: u32.
    /// Source: `ram_save_iterate` (`migration/ram.c`), `save_section_footer`
    /// (`migration/savevm.c`).
    public static func appendSectionEnd(id: UInt32, to output: inout [UInt8]) {
        RAMRecordEncoder.appendEndOfSection(to: &output)
        appendFooter(id: id, to: &output)
    }

    /// Layout: 0x7e; id: u32.
    static func appendFooter(id: UInt32, to output: inout [UInt8]) {
        output.append(SectionType.footer)
        output.appendBigEndian(id)
    }

    /// Appends the list of all blocks: the body of a section's start, or the beginning of a part's,
    /// but for its end.
    ///
    /// Layout: word: u64, the bytes of all blocks with MEM_SIZE in its low bits; then per block
    /// name (length: u8; bytes); used length in bytes: u64; page size: u64 unless it is
    /// `basePage`, the page of the host's ordinary memory; and with `ignoresShared` the address at
    /// which the guest sees the block: u64.
    /// Source: `ram_save_setup` (`migration/ram.c`).
    public static func appendBlockList(
        _ blocks: [ListedBlock], ignoresShared: Bool = false, basePage: PageSize = .target,
        to output: inout [UInt8]
    ) {
        let total = blocks.reduce(UInt64(0)) { $0 + $1.usedBytes }
        output.appendBigEndian(total | RAMFlags.memorySize)
        for block in blocks {
            let page = block.geometry.hostPage
            output.appendName(block.geometry.name.utf8)
            output.appendBigEndian(block.usedBytes)
            if page != basePage { output.appendBigEndian(page.bytes) }
            if ignoresShared { output.appendBigEndian(block.guestPhysicalAddress) }
        }
    }

    /// Appends the byte that ends the stream.
    public static func appendEndOfStream(to output: inout [UInt8]) {
        output.append(SectionType.endOfStream)
    }
}
