/// The devices of a guest that moved by precopy alone: what stands behind the end of `ram`, and where
/// it ends.
///
/// Nothing in it says how long it is, and a source with a return path does not close its channel
/// before the destination has said SHUT: so the end must be found while bytes arrive. QEMU ends with
/// a description of what it sent, as JSON of a stated length. The tail is whole when what came so far
/// ends in
///
/// - the footer of a section, the bytes 0x00 0x06 and a length,
/// - exactly that many characters of printable ASCII, which are one JSON object from the first brace
///   to its counterpart and no more.
///
/// Device state that looks so by chance has a footer's mark, the two bytes, a length that fits to the
/// byte and a brace, below 2^-60 at any place, then nothing but balanced text up to the very byte at
/// which a read ended, and is followed by silence: more bytes make a tail that looked whole go on. A
/// guest that plants such bytes in a device's buffer cuts its own state short, and nobody else's.
///
/// Layout: device sections (0x04; id: u32; name; instance: u32; version: u32; state; 0x7e; id: u32),
/// 0x00; then, unless `suppress-vmdesc` is on, 0x06; length: u32; JSON.
/// Source: `qemu_savevm_state_complete_precopy` (`migration/savevm.c`).
public struct DeviceTail: Sendable {
    /// What stands in a tail, as indices of its `bytes`.
    public struct Parts: Equatable, Sendable {
        /// The device sections with their footers.
        public let devices: Range<Int>
        /// The JSON, where there is one.
        public let description: Range<Int>?

        public init(devices: Range<Int>, description: Range<Int>?) {
            self.devices = devices
            self.description = description
        }
    }

    /// All that came so far.
    public private(set) var bytes: [UInt8] = []
    private let position: UInt64
    private let bytesMax: UInt32
    /// Places that may be the end, of which the text is still to come. No text has the byte 0x00, which
    /// stands six bytes before each: so six at most are open at once.
    private var candidates: [Description] = []
    private var whole: Parts?

    /// - Parameter position: where the tail's first byte stands in its channel.
    public init(
        at position: UInt64, bytesMax: UInt32 = StreamDecoder.packageBytesMaxDefault
    ) {
        self.position = position
        self.bytesMax = bytesMax
    }

    /// Where the parts are when what came so far is whole; more bytes may show that it was not.
    public var parts: Parts? { whole }

    /// Takes the bytes at `range`, as they came.
    /// - Throws: when the tail gets longer than it may be; nothing was taken then.
    public mutating func append(
        _ arrived: Span<UInt8>, _ range: Range<Int>
    ) throws(WireError) {
        guard range.count <= Int(bytesMax) - bytes.count else {
            throw WireError(
                kind: .deviceTailTooLong(maximum: bytesMax), position: position)
        }
        for index in range { append(arrived[index]) }
    }

    /// The parts of a tail that was closed: here a missing description is no fault.
    public func ended() throws(WireError) -> Parts {
        if let whole { return whole }
        let end = bytes.count - 1
        if end >= 0, bytes[end] == SectionType.endOfStream, isFooter(before: end) {
            return Parts(devices: 0..<end, description: nil)
        }
        throw WireError(
            kind: .truncated(reading: .deviceTail), position: position + UInt64(bytes.count))
    }

    private mutating func append(_ byte: UInt8) {
        bytes.append(byte)
        whole = nil
        var index = 0
        while index < candidates.count {
            switch candidates[index].take(byte) {
            case .open: index += 1
            case .refuted: candidates.remove(at: index)
            case .closed:
                whole = Parts(
                    devices: 0..<candidates[index].textStart - Description.headerBytes,
                    description: candidates[index].textStart..<bytes.count)
                candidates.remove(at: index)
            }
        }
        if byte == Description.opening, let begun = begunDescription() { candidates.append(begun) }
    }

    /// The description that begins with the byte that came last.
    private func begunDescription() -> Description? {
        let textStart = bytes.count - 1
        let mark = textStart - Description.headerBytes
        guard mark >= 0, bytes[mark] == SectionType.endOfStream,
            bytes[mark + 1] == SectionType.description, mark >= Self.footerBytes,
            bytes[mark - Self.footerBytes] == SectionType.footer
        else { return nil }
        let length = bytes.span.bigEndian32(at: mark + 2)
        guard length > 1, length <= bytesMax else { return nil }
        return Description(textStart: textStart, lengthBytes: Int(length))
    }

    /// Whether a footer ends right before `end`, of a section that has begun further up.
    private func isFooter(before end: Int) -> Bool {
        let start = end - Self.footerBytes
        guard start > 0, bytes[start] == SectionType.footer else { return false }
        let header = [SectionType.full] + bytes[start + 1..<end]
        var index = 0
        while index + header.count <= start {
            if bytes.span.equals(header, at: index..<index + header.count) { return true }
            index += 1
        }
        return false
    }

    private static let footerBytes = 5
}

/// JSON of a stated length while it comes: whether it is one object, told by its braces.
private struct Description: Sendable {
    enum Outcome { case open, refuted, closed }

    /// The byte 0x00, the byte 0x06 and the length.
    static let headerBytes = 6
    static let opening = UInt8(ascii: "{")

    let textStart: Int
    private var remainingBytes: Int
    private var depth = 1
    private var isInString = false
    private var isEscaped = false

    /// A text whose first brace has come.
    init(textStart: Int, lengthBytes: Int) {
        self.textStart = textStart
        remainingBytes = lengthBytes - 1
    }

    mutating func take(_ byte: UInt8) -> Outcome {
        guard (0x20...0x7e).contains(byte) else { return .refuted }
        remainingBytes -= 1
        if isEscaped {
            isEscaped = false
        } else if isInString {
            if byte == UInt8(ascii: "\"") { isInString = false }
            if byte == UInt8(ascii: "\\") { isEscaped = true }
        } else {
            switch byte {
            case UInt8(ascii: "\""): isInString = true
            case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
            default: break
            }
        }
        if depth == 0 { return remainingBytes == 0 ? .closed : .refuted }
        return remainingBytes == 0 ? .refuted : .open
    }
}
