public import PageModel

/// The outcome of one decoding step.
public enum Decoded<Item> {
    /// Nothing was consumed: call again with at least this many bytes from the same start. It is
    /// a lower bound, which may grow with the next call, and never more than 65,540.
    case needMoreBytes(atLeast: Int)
    /// The next item; `consumed` bytes, at least one, belong to it.
    case item(Item, consumed: Int)

    init(interruption: Interruption) throws(WireError) {
        switch interruption {
        case .needMoreBytes(let count): self = .needMoreBytes(atLeast: count)
        case .refused(let error): throw error
        }
    }
}

extension Decoded: Equatable where Item: Equatable {}
extension Decoded: Sendable where Item: Sendable {}

/// One item of the main channel, in the order in which it can occur.
///
/// Ranges are indices of the buffer that was decoded, valid until the caller moves its bytes.
public enum StreamItem: Equatable, Sendable {
    /// Layout: magic: u32; version: u32; 0x07; length: u32; machine type: bytes; subsections.
    /// Source: `qemu_savevm_state_header`, `vmstate_configuration` (`migration/savevm.c`).
    case head(machineType: String)
    /// The header of a SECTION_START of `ram`; `memorySize` follows.
    case sectionStart(id: UInt32)
    /// The header of a SECTION_PART, or of the SECTION_END when `last`; records follow.
    case sectionResumed(id: UInt32, last: Bool)
    /// The first record of a start, or any record of a part: the bytes of all the blocks that
    /// `blockListed` will name.
    case memorySize(totalBytes: UInt64)
    /// An entry of the list that agrees with our block, but perhaps for the used length of one that
    /// is resizable; the last entry is a `blockList` instead.
    case blockListed(BlockIndex)
    /// The list is whole, and its lengths add up to the total; `count` of our blocks have been listed
    /// by now, in this one or before.
    case blockList(count: Int)
    /// A target page; its bytes stand at `payload`.
    case page(block: BlockIndex, offset: RAMOffset, payload: Range<Int>)
    case zeroPage(block: BlockIndex, offset: RAMOffset)
    /// The end of a section's body together with its footer.
    case sectionEnd(id: UInt32)
    case command(Command)
    /// Bytes of the package that `Command.packaged` announced, as many as are there.
    case packageBytes(Range<Int>, isLast: Bool)
    /// Bytes of the devices of a guest that moved by precopy alone, of the end of the stream and of
    /// what describes the devices: as many as are there. `DeviceTail` finds where they end.
    case deviceTail(Range<Int>)
    /// The byte 0x00.
    case endOfStream
    /// Bytes behind the end: after a precopy QEMU describes its devices there, and wants the
    /// text read before the channel is closed. They mean nothing here and are not checked.
    case trailing(Range<Int>)
}

/// The first byte of what stands between items.
///
/// Source: `QEMU_VM_*` (`migration/savevm.h`).
enum SectionType {
    static let endOfStream: UInt8 = 0x00
    static let start: UInt8 = 0x01
    static let part: UInt8 = 0x02
    static let end: UInt8 = 0x03
    static let full: UInt8 = 0x04
    static let subsection: UInt8 = 0x05
    static let description: UInt8 = 0x06
    static let configuration: UInt8 = 0x07
    static let command: UInt8 = 0x08
    static let footer: UInt8 = 0x7e
}

/// What every stream of this format has in common.
enum StreamFormat {
    /// "QEVM".
    static let magic: UInt32 = 0x5145_564d
    static let version: UInt32 = 3
    /// With what each multifd channel begins.
    static let multifdMagic: UInt32 = 0x1122_3344
    /// The one iterable section of a guest without block or dirty bitmap migration.
    static let ramSection = Array("ram".utf8)
    static let ramVersion: UInt32 = 4
    /// The name of the capability by which shared memory is listed and not sent.
    static let ignoreShared = "x-ignore-shared"
    /// QEMU writes a length of four bytes; its own names fit in one, like all others.
    static let machineTypeBytesMax: UInt32 = 255
}
