public import PageModel

/// Reads the main channel at the destination: bytes in, whole and checked items out.
///
/// The caller keeps a sliding buffer of at least 65,540 bytes (a command with the longest payload)
/// and calls `next` with the place of the first byte not yet consumed. Which command may come in
/// which phase is not decided here.
/// Source: `qemu_loadvm_state`, `qemu_loadvm_state_main` (`migration/savevm.c`).
public struct StreamDecoder: Sendable {
    /// What stands at the cursor.
    enum Stage: Equatable, Sendable {
        case head
        /// A section, a command or the end.
        case boundary
        /// The word in front of the block list.
        case memorySize
        /// An entry of the block list: some bytes of its total are still to come.
        case blockList(BlockListProgress)
        /// `listed` is the block that ended a list at the beginning of this body.
        case records(last: Bool, listed: Int?)
        case package(remainingBytes: UInt32)
        /// The devices of a guest that moved whole, up to the end of the input.
        case deviceTail
        case ended
    }

    /// How much of a block list was read, and whether it stands in the last part of its section.
    struct BlockListProgress: Equatable, Sendable {
        let totalBytes: UInt64
        var remainingBytes: UInt64
        var lastBlock: Int?
        let isInLastPart: Bool
    }

    /// The section `ram`, which has one life. A guest whose devices did not come in a package while
    /// it was open has them behind it.
    enum RAMSection: Equatable, Sendable {
        case unbound
        case open(id: UInt32, hasPackage: Bool)
        case ended(id: UInt32, hasPackage: Bool)
    }

    /// What this side takes.
    struct Terms: Sendable {
        var machineType: String?
        var ignoresShared = false
        /// The page of the host's ordinary memory: a block of such pages is listed without a page size.
        var basePage: PageSize
        var packageBytesMax = StreamDecoder.packageBytesMaxDefault
        /// Whether the link takes up a migration that had broken.
        var isResumed = false
        /// Whether both sides agreed on `Extensions.recovery`.
        var acceptsExtensions = false
    }

    private(set) var terms: Terms
    var stage = Stage.head
    var section = RAMSection.unbound
    var records: RAMRecordDecoder
    /// Whether each of our blocks has been named by any list, and by the one that is being read.
    var listed: [Bool]
    var isInList: [Bool]
    /// The bytes consumed so far.
    public private(set) var position: UInt64 = 0

    /// The largest package that is read unless the caller says otherwise: four times what QEMU
    /// itself accepted until 2.12, and five thousand times what a PC sends.
    public static let packageBytesMaxDefault: UInt32 = 64 << 20

    /// - Parameter machineType: what the source must run, or `nil` for any. As in QEMU a source
    ///   that names only the beginning of it is accepted.
    /// - Parameter ignoresShared: whether the source must have `x-ignore-shared` on, or off.
    /// - Precondition: no two blocks have the same name.
    public init(
        blocks: [ListedBlock], machineType: String?, ignoresShared: Bool = false,
        basePage: PageSize = .target,
        packageBytesMax: UInt32 = StreamDecoder.packageBytesMaxDefault
    ) {
        terms = Terms(
            machineType: machineType, ignoresShared: ignoresShared, basePage: basePage,
            packageBytesMax: packageBytesMax)
        records = RAMRecordDecoder(blocks: blocks)
        listed = Array(repeating: false, count: blocks.count)
        isInList = listed
    }

    /// A decoder of a link that takes up a migration: it stands at the boundary behind a section's
    /// part, with the package read and the blocks listed. A list does not come again.
    /// - Parameter ramSection: the id of the section `ram`, as the first link named it.
    /// - Parameter acceptsExtensions: whether both sides agreed on `Extensions.recovery`.
    /// - Precondition: no two blocks have the same name, and `ramSection` is not 0.
    public init(
        resuming blocks: [ListedBlock], ramSection: UInt32, basePage: PageSize = .target,
        acceptsExtensions: Bool
    ) {
        precondition(ramSection != 0, "a section id is not 0")
        terms = Terms(
            basePage: basePage, isResumed: true, acceptsExtensions: acceptsExtensions)
        stage = .boundary
        section = .open(id: ramSection, hasPackage: true)
        records = RAMRecordDecoder(blocks: blocks)
        listed = Array(repeating: true, count: blocks.count)
        isInList = listed
    }

    /// The destination has offered `Extensions.recovery`: the source may use it from here on.
    public mutating func noteExtensions() { terms.acceptsExtensions = true }

    /// The id of the section `ram`, once it has begun.
    public var ramSection: UInt32? {
        switch section {
        case .unbound: nil
        case .open(let id, _), .ended(let id, _): id
        }
    }

    /// Decodes the item that begins at `start` of `bytes`. Nothing changes when it throws or asks
    /// for more.
    ///
    /// Blocking: no. Allocates: not for pages.
    public mutating func next(
        in bytes: Span<UInt8>, from start: Int
    ) throws(WireError) -> Decoded<StreamItem> {
        var cursor = WireCursor(start: start, end: bytes.count, position: position)
        do throws(Interruption) {
            let item = try decode(at: &cursor, in: bytes)
            position += UInt64(cursor.consumed)
            return .item(item, consumed: cursor.consumed)
        } catch {
            return try Decoded(interruption: error)
        }
    }

    /// The used length of a block, by the last list that named it.
    /// - Precondition: the block is not ignored.
    public func usedBytes(of block: BlockIndex) -> UInt64 {
        precondition(!records.blocks.blocks[block.rawValue].isIgnored)
        return records.blocks.endsBytes[block.rawValue]
    }

    /// The refusal for a channel that was closed with `unread` bytes left, or `nil` when it had
    /// come to its proper end. Whether a `deviceTail` is whole only `DeviceTail` can say.
    public func endOfInput(unread: Int) -> WireError? {
        let reading: WireError.Reading
        switch stage {
        case .head: reading = .head
        case .boundary: reading = .sectionOrCommand
        case .memorySize, .blockList: reading = .blockList
        case .records: reading = .ramRecord
        case .package: reading = .package
        case .deviceTail, .ended: return nil
        }
        return WireError(
            kind: .truncated(reading: reading), position: position + UInt64(unread))
    }

    /// Each stage changes the decoder only after its last check, so that a step is all or nothing.
    private mutating func decode(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> StreamItem {
        switch stage {
        case .head: return try decodeHead(at: &cursor, in: bytes)
        case .boundary: return try decodeBoundary(at: &cursor, in: bytes)
        case .memorySize: return try decodeMemorySize(at: &cursor, in: bytes)
        case .blockList(let progress):
            return try decodeListEntry(progress, at: &cursor, in: bytes)
        case .records(let last, let listed):
            return try decodeRecord(last: last, behind: listed, at: &cursor, in: bytes)
        case .package(let remaining):
            try cursor.require(1)
            let count = min(cursor.available, Int(remaining))
            let first = try cursor.take(count)
            let rest = remaining - UInt32(count)
            stage = rest == 0 ? .boundary : .package(remainingBytes: rest)
            return .packageBytes(first..<first + count, isLast: rest == 0)
        case .deviceTail: return .deviceTail(try takeRest(at: &cursor))
        case .ended: return .trailing(try takeRest(at: &cursor))
        }
    }

    /// Takes whatever is there, a byte at least.
    private func takeRest(at cursor: inout WireCursor) throws(Interruption) -> Range<Int> {
        try cursor.require(1)
        let count = cursor.available
        let first = try cursor.take(count)
        return first..<first + count
    }
}
