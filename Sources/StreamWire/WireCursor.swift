/// Why a decoding step gave no item.
enum Interruption: Error {
    /// The item needs this many bytes, counted from its own first byte.
    case needMoreBytes(atLeast: Int)
    case refused(WireError)
}

/// The place inside one item while it is decoded. The decoder moves only when the item is whole.
struct WireCursor {
    /// The index of the item's first byte.
    let start: Int
    /// The index behind the last byte that is there.
    let end: Int
    /// Where the item begins in its channel.
    let position: UInt64
    /// The bytes of the item read so far.
    private(set) var consumed = 0
    /// Where the field read last begins, counted from `start`: refusals point there.
    private(set) var field = 0

    init(start: Int, end: Int, position: UInt64) {
        precondition(start >= 0 && start <= end, "a decoding step begins inside its buffer")
        self.start = start
        self.end = end
        self.position = position
    }

    /// The bytes not yet read.
    var available: Int { end - start - consumed }

    /// Asks for `count` bytes more without reading them.
    func require(_ count: Int) throws(Interruption) {
        guard available >= count else { throw .needMoreBytes(atLeast: consumed + count) }
    }

    /// Takes `count` bytes as one field and answers the index of the first.
    mutating func take(_ count: Int) throws(Interruption) -> Int {
        try require(count)
        field = consumed
        consumed += count
        return start + field
    }

    mutating func u8(in bytes: Span<UInt8>) throws(Interruption) -> UInt8 {
        bytes[try take(1)]
    }

    mutating func u16(in bytes: Span<UInt8>) throws(Interruption) -> UInt16 {
        bytes.bigEndian16(at: try take(2))
    }

    mutating func u32(in bytes: Span<UInt8>) throws(Interruption) -> UInt32 {
        bytes.bigEndian32(at: try take(4))
    }

    mutating func u64(in bytes: Span<UInt8>) throws(Interruption) -> UInt64 {
        bytes.bigEndian64(at: try take(8))
    }

    /// Layout: length: u8; name: that many bytes. Answers where the name stands in `bytes`; the
    /// field is the length byte.
    mutating func name(in bytes: Span<UInt8>) throws(Interruption) -> Range<Int> {
        let length = Int(try u8(in: bytes))
        let lengthField = field
        let first = try take(length)
        field = lengthField
        return first..<first + length
    }

    /// The next byte, which stays unread.
    func peek(in bytes: Span<UInt8>) throws(Interruption) -> UInt8 {
        try require(1)
        return bytes[start + consumed]
    }

    /// A refusal of the field read last, or of the one that begins at `field`.
    func refusal(_ kind: WireError.Kind, at field: Int? = nil) -> Interruption {
        .refused(WireError(kind: kind, position: position + UInt64(field ?? self.field)))
    }

    /// The error for bytes that are all there: an item that wants more is cut short.
    func failure(_ interruption: Interruption, reading: WireError.Reading) -> WireError {
        switch interruption {
        case .refused(let error): error
        case .needMoreBytes:
            WireError(
                kind: .truncated(reading: reading), position: position + UInt64(end - start))
        }
    }
}
