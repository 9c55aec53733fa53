internal import LinuxKernel
internal import PageModel
internal import StreamWire

/// Page records on the main channel, in sections as QEMU cuts them. The thread that sends owns it.
struct SectionWriter: ~Copyable {
    private let link: SourceLink
    private let section: UInt32
    private var writer: PageWriter
    /// When the section that is being written was begun; `nil` between two.
    private var begunAtNanoseconds: UInt64?

    /// QEMU's `MAX_WAIT`: a reader of the stream finds its place again at sections.
    /// Source: `ram_save_iterate` (`migration/ram.c`).
    private static let sectionNanosecondsMax: UInt64 = 50_000_000

    init(state: SourceState, link: SourceLink) {
        self.link = link
        section = state.ramSection
        writer = PageWriter(state: state)
    }

    /// Pages that fit before the next `flush`.
    var room: Int { writer.room }

    /// Appends target pages that must have been claimed.
    /// - Precondition: no more than `room`.
    mutating func append(_ pages: Range<Int>, of block: BlockIndex) {
        begin()
        writer.append(pages, of: block)
    }

    /// Bytes of sections written since this was last asked.
    mutating func takeWrittenBytes() -> Int { writer.takeWrittenBytes() }

    /// Writes a whole host page, which must have been claimed, in as many writes as it takes.
    /// - Parameter pause: called between two of them, with the bytes written since the last.
    mutating func write(_ page: HostPage, pause: ((Int) -> Void)? = nil) throws(Errno) {
        begin()
        try writer.write(page, to: link.main, pause: pause)
    }

    /// Writes all that was appended, and ends a section that has lasted.
    mutating func flush() throws(Errno) {
        try writer.flush(to: link.main)
        guard let begun = begunAtNanoseconds else { return }
        if Monotonic.now() - begun >= Self.sectionNanosecondsMax { try end() }
    }

    /// Writes all that was appended and ends the section, so that a command may follow.
    mutating func end() throws(Errno) {
        if begunAtNanoseconds != nil {
            begunAtNanoseconds = nil
            let section = section
            writer.append { StreamEncoder.appendSectionEnd(id: section, to: &$0) }
        }
        try writer.flush(to: link.main)
    }

    /// Writes what stands between two sections.
    mutating func write(_ bytes: [UInt8]) throws(Errno) {
        try end()
        writer.append { $0 += bytes }
        try writer.flush(to: link.main)
        // Not counted: the lowest limits would be used up by it.
        _ = writer.takeWrittenBytes()
    }

    /// Writes a command between two sections.
    mutating func send(_ command: Command) throws(Errno) {
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(command, blocks: [], to: &bytes)
        try write(bytes)
    }

    private mutating func begin() {
        guard begunAtNanoseconds == nil else { return }
        begunAtNanoseconds = Monotonic.now()
        let section = section
        writer.append { StreamEncoder.appendSectionResumed(id: section, last: false, to: &$0) }
    }
}
