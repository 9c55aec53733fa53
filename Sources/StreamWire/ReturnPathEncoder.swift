public import PageModel

/// Writes the return path; remembers the block of the last request, and what was offered.
public struct ReturnPathEncoder: Sendable {
    private var blocks: BlockTable
    private var lastBlock: BlockIndex?
    private var hasShut = false
    private var offered: Extensions?
    private var hasReason = false

    /// - Parameter offered: what the first link's list offered, for a link that resumes it: no list is
    ///   written there.
    /// - Precondition: no two blocks have the same name.
    public init(blocks: [BlockGeometry], offered: Extensions? = nil) {
        self.blocks = BlockTable(blocks.map { ListedBlock($0) })
        self.offered = offered
    }

    /// Takes the blocks' used lengths, by which the source judges requests and bitmaps; without it the
    /// blocks are used whole.
    /// - Precondition: the blocks are the same in the same order.
    public mutating func resize(_ blocks: [ListedBlock]) { self.blocks = BlockTable(blocks) }

    /// Appends one message; a request names its block the first time and when the block changes.
    /// Nothing follows SHUT: it is the last word, and a source that hears more takes it as a breach.
    /// Likewise left out: a second list of extensions, and a reason that is empty, not the first, or of
    /// a destination that did not offer any; heartbeats and answers about a recovery, unless that was
    /// offered. A reason that is too long is cut.
    /// - Precondition: a request is for whole host pages inside its block, and below 4 GiB; it is no
    ///   part of a bitmap, which `appendReceivedBitmap` writes.
    public mutating func append(_ message: ReturnPathMessage, to output: inout [UInt8]) {
        guard !hasShut else { return }
        switch message {
        case .shut(let error):
            hasShut = true
            Self.appendHeader(.shut, lengthBytes: 4, to: &output)
            output.appendBigEndian(error)
        case .pong(let value):
            Self.appendHeader(.pong, lengthBytes: 4, to: &output)
            output.appendBigEndian(value)
        case .requestPages(let block, let start, let length):
            appendRequest(block: block, start: start, lengthBytes: length, to: &output)
        case .extensions(let offer):
            guard offered == nil else { return }
            offered = offer.extensions
            Self.appendHeader(.extensions, lengthBytes: offer.payloadBytes, to: &output)
            offer.append(to: &output)
        case .refusalReason(let text): appendReason(text, to: &output)
        case .recoveryAnswer(let answer):
            guard offersRecovery else { return }
            Self.appendHeader(.recoveryAnswer, lengthBytes: 4, to: &output)
            output.appendBigEndian(answer.rawValue)
        case .heartbeat:
            guard offersRecovery else { return }
            Self.appendHeader(.heartbeat, lengthBytes: 0, to: &output)
        case .resumeAcknowledged:
            Self.appendHeader(.resumeAcknowledged, lengthBytes: 4, to: &output)
            output.appendBigEndian(BitmapFormat.resumeAcknowledged)
        case .receivedBitmap, .bitmapBytes, .bitmapEnd:
            preconditionFailure("a bitmap is written whole")
        }
    }

    /// Appends the whole answer to `Command.receivedBitmap`: 32 MiB for a block of 1 TiB.
    ///
    /// Layout: see `ReturnPathMessage.receivedBitmap`.
    /// Source: `migrate_send_rp_recv_bitmap` (`migration/migration.c`), `ramblock_recv_bitmap_send`
    /// (`migration/ram.c`).
    /// - Precondition: `received` is the bitmap of `block`, which is not ignored.
    public mutating func appendReceivedBitmap(
        of block: BlockIndex, _ received: ReceivedBitmap, to output: inout [UInt8]
    ) {
        guard !hasShut else { return }
        let usedBytes = blocks.endsBytes[block.rawValue]
        precondition(usedBytes > 0, "shared memory is not received")
        let name = blocks.name(of: block)
        Self.appendHeader(.receivedBitmap, lengthBytes: 1 + UInt16(name.count), to: &output)
        output.appendName(name)
        let wordCount = BitmapFormat.wordCount(usedBytes: usedBytes)
        output.appendBigEndian(UInt64(wordCount * BitmapFormat.wordBytes))
        received.appendTargetBits(
            pageCount: BitmapFormat.pageCount(usedBytes: usedBytes), to: &output)
        output.appendBigEndian(BitmapFormat.endMark)
    }

    private var offersRecovery: Bool { offered?.contains(.recovery) == true }

    private mutating func appendReason(_ text: String, to output: inout [UInt8]) {
        guard offered?.contains(.refusalReason) == true, !hasReason, !text.isEmpty else { return }
        hasReason = true
        let bytes = Extensions.shortened(text)
        Self.appendHeader(.refusalReason, lengthBytes: UInt16(bytes.count), to: &output)
        output += bytes
    }

    /// Names the block again with the next request: for a source that has forgotten it.
    public mutating func forgetBlock() { lastBlock = nil }

    private mutating func appendRequest(
        block: BlockIndex, start: RAMOffset, lengthBytes: UInt64, to output: inout [UInt8]
    ) {
        let fault = blocks.fault(
            ofRangeAt: start.rawValue, lengthBytes: lengthBytes, block: block.rawValue)
        precondition(fault == nil, "a request is for whole host pages inside its block")
        let isNamed = block == lastBlock
        let name = blocks.name(of: block)
        if isNamed {
            Self.appendHeader(
                .requestPages, lengthBytes: ReturnPathType.requestBytes, to: &output)
        } else {
            Self.appendHeader(
                .requestPagesOfBlock,
                lengthBytes: ReturnPathType.requestBytes + 1 + UInt16(name.count), to: &output)
        }
        output.appendBigEndian(start.rawValue)
        output.appendBigEndian(UInt32(lengthBytes))
        if !isNamed { output.appendName(name) }
        lastBlock = block
    }

    private static func appendHeader(
        _ type: ReturnPathType, lengthBytes: UInt16, to output: inout [UInt8]
    ) {
        output.appendBigEndian(type.rawValue)
        output.appendBigEndian(lengthBytes)
    }
}
