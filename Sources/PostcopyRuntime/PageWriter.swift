internal import LinuxKernel
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Writes claimed pages to one channel: headers made here, content straight from guest memory, zero
/// pages as such. One thread owns it.
struct PageWriter: ~Copyable {
    private let state: SourceState
    private var gather: GatherWriter
    private var encoder: RAMRecordEncoder
    private var memory: MemoryRelease

    private static let pagesMax = ChannelTuning.backgroundPages

    init(state: SourceState) {
        self.state = state
        gather = GatherWriter(
            pageCapacity: Self.pagesMax, headerBytesMax: RAMRecordEncoder.headerBytesMax)
        encoder = RAMRecordEncoder(blocks: state.geometries)
        memory = MemoryRelease(state: state)
    }

    /// Pages that fit before the next `flush`.
    var room: Int { Self.pagesMax - pageCount }
    private var pageCount = 0

    /// Bytes written since this was last asked.
    mutating func takeWrittenBytes() -> Int {
        defer { writtenBytes = 0 }
        return writtenBytes
    }
    private var writtenBytes = 0

    /// Appends what is no page: section headers and ends.
    mutating func append(_ encode: (inout [UInt8]) -> Void) { encode(&gather.headers) }

    /// Appends target pages of one block, which must have been claimed.
    /// - Precondition: no more than `room`.
    mutating func append(_ pages: Range<Int>, of block: BlockIndex) {
        precondition(pages.count <= room)
        let ram = state.blocks[block.rawValue]
        let pageBytes = PageSize.target.bytes
        var zeros: UInt64 = 0
        for page in pages {
            let offset = RAMOffset(rawValue: UInt64(page) * pageBytes)
            if state.precopy?.isFree(page, of: block) == true || ram.isZeroPage(at: offset) {
                encoder.appendZeroPage(block: block, offset: offset, to: &gather.headers)
                zeros += 1
            } else {
                encoder.appendPageHeader(block: block, offset: offset, to: &gather.headers)
                gather.append(ram, at: offset, lengthBytes: Int(pageBytes))
            }
        }
        pageCount += pages.count
        memory.append(pages, of: block)
        state.counters.zeroPages.add(zeros, ordering: .relaxed)
        state.counters.normalPages.add(UInt64(pages.count) - zeros, ordering: .relaxed)
    }

    /// Writes a whole host page, in as many writes as it takes.
    /// - Parameter pause: called between two of them, with the bytes written since the last.
    mutating func write(
        _ page: HostPage, to socket: borrowing StreamSocket, pause: ((Int) -> Void)? = nil
    ) throws(Errno) {
        var rest = state.geometries[page.block.rawValue].targetPages(of: page.page)
        while !rest.isEmpty {
            if room == 0 {
                try flush(to: socket)
                if let pause { pause(takeWrittenBytes()) }
            }
            let now = rest.prefix(room)
            append(now, of: page.block)
            rest = rest.dropFirst(now.count)
        }
    }

    /// Writes all that was appended.
    mutating func flush(to socket: borrowing StreamSocket) throws(Errno) {
        guard !gather.isEmpty else { return }
        state.counters.addSent(gather.byteCount)
        writtenBytes += gather.byteCount
        pageCount = 0
        try gather.flush(to: socket)
        memory.noteWritten()
    }
}
