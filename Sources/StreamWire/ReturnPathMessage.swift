public import PageModel

/// A message from the destination to the source.
///
/// Layout: type: u16; payload length: u16; payload.
/// Source: `migrate_send_rp_message`, `source_return_path_thread` (`migration/migration.c`).
public enum ReturnPathMessage: Equatable, Sendable {
    /// The last message; 0 when the destination has everything. Type 1; payload: error: u32.
    case shut(UInt32)
    /// The answer to a ping. Type 2; payload: value: u32.
    case pong(UInt32)
    /// Asks for whole host pages of a block. Type 3; payload: start: u64; length: u32; block name
    /// (length: u8; bytes). In the same block as the request before, type 4, without the name.
    case requestPages(block: BlockIndex, start: RAMOffset, lengthBytes: UInt64)
    /// The answer to `Extensions.question`, which no QEMU asks. Type 0x5043; payload: see
    /// `ExtensionOffer`; up to 64 bytes with what a later version adds, which is ignored.
    case extensions(ExtensionOffer)
    /// Why a SHUT with an error will follow. Type 0x5044; payload: 1 to 400 bytes of UTF-8. The peer's
    /// text: not fit for a terminal as it is.
    case refusalReason(String)
    /// Our own: how the destination stands when a link comes back. Type 0x5045; payload: u32.
    case recoveryAnswer(RecoveryAnswer)
    /// Our own: the destination lives, and has nothing else to say. Type 0x5046; payload: none.
    case heartbeat
    /// The destination goes on: the answer to `Command.postcopyResume`. Type 6; payload: 1: u32.
    case resumeAcknowledged
    /// The answer to `Command.receivedBitmap` begins, of as many bytes as our block needs; `bitmapBytes`
    /// and `bitmapEnd` follow. Type 5; payload: block name (length: u8; bytes); then uncounted, length:
    /// u64; that many bytes; 0x0123456789ABCDEF: u64.
    case receivedBitmap(block: BlockIndex)
    /// Whole words of 64 target pages, the first of them word `firstWord`, as many as are there. They
    /// stand at `bytes` of the buffer that was decoded; `ReceivedBitmap.word` reads one.
    case bitmapBytes(block: BlockIndex, firstWord: Int, bytes: Range<Int>)
    case bitmapEnd(block: BlockIndex)
}

/// The messages by number.
///
/// Source: `enum mig_rp_message_type` (`migration/migration.h`); those from 0x5043 on are our own, far
/// from any that QEMU may add.
enum ReturnPathType: UInt16 {
    case shut = 1
    case pong = 2
    case requestPagesOfBlock = 3
    case requestPages = 4
    case receivedBitmap = 5
    case resumeAcknowledged = 6
    case switchoverAcknowledged = 7
    case extensions = 0x5043
    case refusalReason = 0x5044
    case recoveryAnswer = 0x5045
    case heartbeat = 0x5046

    /// What a request for pages carries in front of a name: start, length.
    static let requestBytes: UInt16 = 12
}

/// What stands around the bits of a bitmap of received pages.
enum BitmapFormat {
    /// A bit for each target page, in words of 64.
    static let wordBytes = 8
    static let resumeAcknowledged: UInt32 = 1
    /// Source: `RAMBLOCK_RECV_BITMAP_ENDING` (`migration/ram.c`).
    static let endMark: UInt64 = 0x0123_4567_89ab_cdef

    static func pageCount(usedBytes: UInt64) -> Int {
        Int(usedBytes >> UInt64(PageSize.target.shift))
    }

    static func wordCount(usedBytes: UInt64) -> Int { (pageCount(usedBytes: usedBytes) + 63) / 64 }
}
