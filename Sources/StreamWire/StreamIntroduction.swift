public import PageModel

/// What a source says of its guest before the first page: enough to make memory for a guest that
/// nobody here has configured.
public struct StreamIntroduction: Equatable, Sendable {
    /// A RAM block as the source lists it.
    public struct Block: Equatable, Sendable {
        public let name: String
        /// What the guest uses of it, in whole host pages.
        public let usedBytes: UInt64
        public let hostPage: PageSize
        /// Where the guest sees the block; known only with `x-ignore-shared`.
        public let guestPhysicalAddress: UInt64

        public init(
            name: String, usedBytes: UInt64, hostPage: PageSize, guestPhysicalAddress: UInt64 = 0
        ) {
            self.name = name
            self.usedBytes = usedBytes
            self.hostPage = hostPage
            self.guestPhysicalAddress = guestPhysicalAddress
        }
    }

    public let machineType: String
    /// The subsections of the configuration, byte for byte, for whoever sends the guest on.
    public let configuration: [UInt8]
    /// The page sizes of all blocks, or-ed, as ADVISE names them; `nil` when the source said nothing of
    /// postcopy.
    public let pageSizeSummary: UInt64?
    /// The id of the section `ram`, which no device of the guest has.
    public let ramSection: UInt32
    /// In the order of the list.
    public let blocks: [Block]

    public init(
        machineType: String, configuration: [UInt8] = [], pageSizeSummary: UInt64?,
        ramSection: UInt32, blocks: [Block]
    ) {
        self.machineType = machineType
        self.configuration = configuration
        self.pageSizeSummary = pageSizeSummary
        self.ramSection = ramSection
        self.blocks = blocks
    }

    /// Reads a stream from its first byte up to the end of the first list of RAM blocks, without
    /// knowing the blocks. The bytes are to be decoded again, by a decoder that does.
    ///
    /// Blocking: no. It asks for more until all of the introduction is there, 128 KiB at most.
    /// - Parameter basePage: the page of the source's ordinary memory. What is not listed with a page
    ///   size has these.
    /// - Parameter ignoresShared: whether the source must have `x-ignore-shared` on, or off. With it,
    ///   which excludes postcopy, no block is listed with a page size.
    public static func decode(
        _ bytes: Span<UInt8>, basePage: PageSize = .target, ignoresShared: Bool = false
    ) throws(WireError) -> Decoded<StreamIntroduction> {
        var reader = IntroductionReader(basePage: basePage, ignoresShared: ignoresShared)
        return try reader.read(bytes)
    }

    /// What an introduction is at most: 256 blocks, many times those of a machine with memory in all
    /// of its slots, are 70 KiB.
    public static let lengthBytesMax = 128 << 10
}

/// The state of one attempt to read an introduction.
private struct IntroductionReader {
    private let basePage: PageSize
    private let ignoresShared: Bool
    private var decoder: StreamDecoder
    private var machineType = ""
    private var configuration: [UInt8] = []
    private var pageSizeSummary: UInt64?
    private var blocks: [StreamIntroduction.Block] = []

    private static let blocksMax = 256

    init(basePage: PageSize, ignoresShared: Bool) {
        self.basePage = basePage
        self.ignoresShared = ignoresShared
        decoder = StreamDecoder(blocks: [], machineType: nil, ignoresShared: ignoresShared)
    }

    mutating func read(
        _ bytes: Span<UInt8>
    ) throws(WireError) -> Decoded<StreamIntroduction> {
        var start = 0
        while true {
            let place = decoder.position
            guard case .item(let item, let consumed) = try decoder.next(in: bytes, from: start)
            else { return try needMore(bytes) }
            start += consumed
            switch item {
            case .head(let machine):
                machineType = machine
                // Magic, version, type and length stand before the name.
                configuration = bytes.copy(13 + machine.utf8.count..<consumed)
            case .command(.postcopyAdvise(let summary, _)): pageSizeSummary = summary
            case .command(.ping(let value)):
                if Extensions.offersRecovery(askedBy: value) { decoder.noteExtensions() }
            case .command(.openReturnPath), .command(.switchoverStart), .command(.heartbeat): break
            case .sectionStart(let id): return try readList(bytes, from: start, ramSection: id)
            default: throw WireError(kind: .misplaced(.beforeBlockList), position: place)
            }
        }
    }

    private func needMore(
        _ bytes: Span<UInt8>
    ) throws(WireError) -> Decoded<StreamIntroduction> {
        guard bytes.count < StreamIntroduction.lengthBytesMax else {
            throw WireError(
                kind: .introductionTooLong(maximum: StreamIntroduction.lengthBytesMax),
                position: UInt64(bytes.count))
        }
        return .needMoreBytes(atLeast: bytes.count + 1)
    }

    /// Layout and source: see `StreamEncoder.appendBlockList`.
    private mutating func readList(
        _ bytes: Span<UInt8>, from start: Int, ramSection: UInt32
    ) throws(WireError) -> Decoded<StreamIntroduction> {
        var cursor = WireCursor(start: start, end: bytes.count, position: UInt64(start))
        do throws(Interruption) {
            let word = try cursor.u64(in: bytes)
            guard word & RAMFlags.mask == RAMFlags.memorySize, word > RAMFlags.memorySize else {
                throw cursor.refusal(.misplaced(.ramRecordBeforeBlockList))
            }
            let total = word & ~RAMFlags.mask
            var remaining = total
            while remaining > 0 {
                try readEntry(&remaining, of: total, at: &cursor, in: bytes)
            }
        } catch {
            guard case .refused(let error) = error else { return try needMore(bytes) }
            throw error
        }
        return .item(
            StreamIntroduction(
                machineType: machineType, configuration: configuration,
                pageSizeSummary: pageSizeSummary, ramSection: ramSection, blocks: blocks),
            consumed: start + cursor.consumed)
    }

    private mutating func readEntry(
        _ remaining: inout UInt64, of total: UInt64, at cursor: inout WireCursor,
        in bytes: Span<UInt8>
    ) throws(Interruption) {
        let range = try cursor.name(in: bytes)
        let nameField = cursor.field
        guard let name = String(validating: bytes.copy(range), as: UTF8.self), !name.isEmpty
        else { throw cursor.refusal(.nameNotText, at: nameField) }
        guard !blocks.contains(where: { $0.name == name }) else {
            throw cursor.refusal(.repeatedBlock(name), at: nameField)
        }
        guard blocks.count < Self.blocksMax else {
            throw cursor.refusal(.tooManyBlocks(maximum: Self.blocksMax), at: nameField)
        }
        let usedBytes = try cursor.u64(in: bytes)
        let lengthField = cursor.field
        guard usedBytes <= remaining else {
            throw cursor.refusal(.blockListTotalMismatch(totalBytes: total))
        }
        remaining -= usedBytes
        var (page, address) = (basePage, UInt64(0))
        if ignoresShared {
            address = try cursor.u64(in: bytes)
        } else {
            page = try hostPage(of: name, isLast: remaining == 0, at: &cursor, in: bytes)
        }
        guard usedBytes > 0, page.divides(usedBytes) else {
            throw cursor.refusal(
                .blockNotWholePages(block: name, lengthBytes: usedBytes, pageBytes: page.bytes),
                at: lengthField)
        }
        guard usedBytes <= BlockGeometry.lengthBytesMax else {
            throw cursor.refusal(
                .blockTooLong(
                    block: name, maximum: BlockGeometry.lengthBytesMax, theirs: usedBytes),
                at: lengthField)
        }
        blocks.append(
            .init(
                name: name, usedBytes: usedBytes, hostPage: page, guestPhysicalAddress: address))
    }

    /// Reads a page size where one stands. Behind an entry comes the next name, which is not empty and
    /// so begins with no 0, or behind the last one a record, which has a flag and so no multiple of a
    /// page for its word; a page size has neither.
    private func hostPage(
        of block: String, isLast: Bool, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> PageSize {
        if !isLast {
            guard try cursor.peek(in: bytes) == 0 else { return basePage }
        }
        var ahead = cursor
        let word = try ahead.u64(in: bytes)
        if isLast, word & RAMFlags.mask != 0 { return basePage }
        cursor = ahead
        guard let page = PageSize(bytes: word) else {
            throw cursor.refusal(.blockPageSizeUnknown(block: block, pageBytes: word))
        }
        return page
    }
}
