import PageModel

/// Reads the return path at the source; remembers the block of the last request.
///
/// Source: `source_return_path_thread`, `migrate_handle_rp_req_pages` (`migration/migration.c`).
public struct ReturnPathDecoder: Sendable {
    /// A bitmap of which some words or the end mark are still to come.
    struct BitmapProgress: Sendable {
        let block: Int
        let pageCount: Int
        var nextWord = 0

        var wordCount: Int { (pageCount + 63) / 64 }
    }

    private(set) var blocks: BlockTable
    private var lastBlock: Int?
    private var isShut = false
    private var hasAsked: Bool
    private(set) var offered: Extensions?
    private var hasReason = false
    private(set) var isResumed = false
    var bitmap: BitmapProgress?
    /// The bytes consumed so far.
    public private(set) var position: UInt64 = 0

    /// - Parameter hasAsked: whether the source has asked for extensions; as long as it has not, their
    ///   list is refused.
    /// - Parameter offered: what the first link's list offered, for a link that resumes it: no list
    ///   comes there.
    /// - Precondition: no two blocks have the same name.
    public init(blocks: [ListedBlock], hasAsked: Bool = false, offered: Extensions? = nil) {
        self.blocks = BlockTable(blocks)
        self.hasAsked = hasAsked
        self.offered = offered
    }

    /// The link resumes a migration: bitmaps and the answer to RESUME may come.
    public mutating func expectsBitmaps() { isResumed = true }

    /// The source asks for extensions: from here on their list may come.
    public mutating func noteAsked() { hasAsked = true }

    /// Takes the blocks' used lengths anew, which the guest may have changed since.
    /// - Precondition: the blocks are the same in the same order.
    public mutating func resize(_ blocks: [ListedBlock]) { self.blocks = BlockTable(blocks) }

    /// Decodes the message that begins at `start` of `bytes`. Nothing changes when it throws or
    /// asks for more, which is never beyond 404 bytes.
    ///
    /// Blocking: no. Allocates: no, except to refuse and for a reason.
    public mutating func next(
        in bytes: Span<UInt8>, from start: Int
    ) throws(WireError) -> Decoded<ReturnPathMessage> {
        var cursor = WireCursor(start: start, end: bytes.count, position: position)
        do throws(Interruption) {
            let message = try decode(at: &cursor, in: bytes)
            position += UInt64(cursor.consumed)
            return .item(message, consumed: cursor.consumed)
        } catch {
            return try Decoded(interruption: error)
        }
    }

    /// The refusal for a return path that was closed with `unread` bytes left, or `nil` when the
    /// destination had said `shut` and nothing else since.
    public func endOfInput(unread: Int) -> WireError? {
        if isShut && unread == 0 { return nil }
        return WireError(
            kind: .truncated(reading: bitmap == nil ? .returnPathMessage : .receivedBitmap),
            position: position + UInt64(unread))
    }

    private mutating func decode(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        if let bitmap { return try decodeBitmap(bitmap, at: &cursor, in: bytes) }
        let number = try cursor.u16(in: bytes)
        if isShut { throw cursor.refusal(.misplaced(.messageAfterShut)) }
        guard let type = ReturnPathType(rawValue: number) else {
            throw cursor.refusal(.unknownMessage(number))
        }
        switch type {
        case .shut:
            try decodeLength(of: type, expected: 4...4, at: &cursor, in: bytes)
            let error = try cursor.u32(in: bytes)
            isShut = true
            return .shut(error)
        case .pong:
            try decodeLength(of: type, expected: 4...4, at: &cursor, in: bytes)
            return .pong(try cursor.u32(in: bytes))
        case .requestPages, .requestPagesOfBlock:
            return try decodeRequest(type, at: &cursor, in: bytes)
        case .extensions: return try decodeExtensions(at: &cursor, in: bytes)
        case .refusalReason: return try decodeReason(at: &cursor, in: bytes)
        case .recoveryAnswer: return try decodeAnswer(at: &cursor, in: bytes)
        case .heartbeat:
            guard offersRecovery else { throw cursor.refusal(.misplaced(.heartbeatNotAgreed)) }
            try decodeLength(of: type, expected: 0...0, at: &cursor, in: bytes)
            return .heartbeat
        case .receivedBitmap: return try decodeBitmapHeader(at: &cursor, in: bytes)
        case .resumeAcknowledged: return try decodeAcknowledgement(at: &cursor, in: bytes)
        case .switchoverAcknowledged:
            throw cursor.refusal(.unsupportedMessage(number))
        }
    }

    private mutating func decodeExtensions(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        guard hasAsked else { throw cursor.refusal(.misplaced(.extensionsUnasked)) }
        guard offered == nil else { throw cursor.refusal(.misplaced(.secondExtensions)) }
        let expected = Extensions.listBytes
        let length = try decodeLength(of: .extensions, expected: expected, at: &cursor, in: bytes)
        let lengthField = cursor.field
        let version = try cursor.u16(in: bytes)
        let extensions = Extensions(rawValue: try cursor.u32(in: bytes))
        var rest = Int(length - expected.lowerBound)
        var token: MigrationToken?
        if extensions.contains(.recovery) {
            guard rest >= MigrationToken.wireBytes else {
                throw cursor.refusal(
                    .badMessageLength(
                        message: ReturnPathType.extensions.rawValue, lengthBytes: length),
                    at: lengthField)
            }
            token = try cursor.token(in: bytes)
            rest -= MigrationToken.wireBytes
        }
        _ = try cursor.take(rest)
        offered = extensions
        return .extensions(
            ExtensionOffer(version: version, extensions: extensions, token: token))
    }

    private mutating func decodeReason(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        guard offered?.contains(.refusalReason) == true else {
            throw cursor.refusal(.misplaced(.reasonNotOffered))
        }
        guard !hasReason else { throw cursor.refusal(.misplaced(.secondReason)) }
        let length = Int(
            try decodeLength(
                of: .refusalReason, expected: Extensions.reasonBytes, at: &cursor, in: bytes))
        let first = try cursor.take(length)
        let text = bytes.copy(first..<first + length)
        guard let reason = String(validating: text, as: UTF8.self) else {
            throw cursor.refusal(.reasonNotText)
        }
        hasReason = true
        return .refusalReason(reason)
    }

    @discardableResult
    func decodeLength(
        of type: ReturnPathType, expected: ClosedRange<UInt16>,
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> UInt16 {
        let length = try cursor.u16(in: bytes)
        guard expected.contains(length) else {
            throw cursor.refusal(
                .badMessageLength(message: type.rawValue, lengthBytes: length))
        }
        return length
    }

    private mutating func decodeRequest(
        _ type: ReturnPathType, at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ReturnPathMessage {
        let bare = ReturnPathType.requestBytes
        let expected = type == .requestPages ? bare...bare : bare + 2...bare + 1 + 255
        let length = try decodeLength(of: type, expected: expected, at: &cursor, in: bytes)
        let lengthField = cursor.field
        let start = try cursor.u64(in: bytes)
        let startField = cursor.field
        let count = UInt64(try cursor.u32(in: bytes))
        let block: Int
        if type == .requestPages {
            guard let lastBlock else {
                throw cursor.refusal(.requestBeforeBlockNamed, at: 0)
            }
            block = lastBlock
        } else {
            guard UInt16(try cursor.peek(in: bytes)) == length - bare - 1 else {
                throw cursor.refusal(
                    .badMessageLength(message: type.rawValue, lengthBytes: length),
                    at: lengthField)
            }
            block = try blocks.block(at: &cursor, in: bytes)
        }
        if let fault = blocks.fault(ofRangeAt: start, lengthBytes: count, block: block) {
            let kind = refusal(of: fault, block: block, start: start, lengthBytes: count)
            throw cursor.refusal(kind, at: startField)
        }
        lastBlock = block
        return .requestPages(
            block: BlockIndex(rawValue: block), start: RAMOffset(rawValue: start),
            lengthBytes: count)
    }

    private func refusal(
        of fault: BlockTable.RangeFault, block: Int, start: UInt64, lengthBytes: UInt64
    ) -> WireError.Kind {
        let name = blocks.text(block)
        return switch fault {
        case .ignored: .requestOfIgnoredBlock(block: name)
        case .empty: .requestEmpty(block: name)
        case .misaligned: .requestMisaligned(block: name, start: start, lengthBytes: lengthBytes)
        case .outside: .requestOutsideBlock(block: name, start: start, lengthBytes: lengthBytes)
        }
    }
}
