/// Bytes of a file as they are put together.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

    mutating func byte(_ value: UInt8) { bytes.append(value) }

    /// A number in its own width, little-endian.
    mutating func fixed<Number: FixedWidthInteger>(_ value: Number) {
        for shift in stride(from: 0, to: Number.bitWidth, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: value >> Number(shift)))
        }
    }

    /// Seven bits to a byte, the lowest first (LEB128): small numbers take little room.
    mutating func number(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }

    /// How far `value` lies from `base`, either way round the circle of 64 bits.
    mutating func step(from base: UInt64, to value: UInt64) {
        let step = Int64(bitPattern: value &- base)
        number(UInt64(bitPattern: (step << 1) ^ (step >> 63)))
    }

    mutating func text(_ value: String) {
        let utf8 = Array(value.utf8)
        number(UInt64(utf8.count))
        append(utf8)
    }

    /// A length that is known only once what it counts is there.
    mutating func patch(_ value: UInt32, at place: Int) {
        for index in 0..<4 {
            bytes[place + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
        }
    }
}

/// Bytes of a file as they are read, up to an end; every refusal names the byte.
struct ByteReader {
    private let bytes: [UInt8]
    private(set) var at: Int
    let end: Int

    init(_ bytes: [UInt8], _ range: Range<Int>) {
        self.bytes = bytes
        at = range.lowerBound
        end = range.upperBound
    }

    var isAtEnd: Bool { at == end }

    mutating func byte() throws(FaultLogError) -> UInt8 {
        guard at < end else { throw .malformed(at: at, "it ends too early") }
        defer { at += 1 }
        return bytes[at]
    }

    mutating func number() throws(FaultLogError) -> UInt64 {
        let start = at
        var value: UInt64 = 0
        for shift in stride(from: 0, to: UInt64.bitWidth, by: 7) {
            let byte = try byte()
            // The tenth byte has room for one bit.
            guard shift < 63 || byte <= 1 else { break }
            value |= UInt64(byte & 0x7F) << UInt64(shift)
            if byte < 0x80 { return value }
        }
        throw .malformed(at: start, "a number is longer than 64 bits")
    }

    /// A number that a field of fewer bits must hold.
    mutating func number<Number: FixedWidthInteger>(
        as type: Number.Type
    ) throws(FaultLogError) -> Number {
        let start = at
        guard let value = Number(exactly: try number()) else {
            throw .malformed(at: start, "a number is longer than \(Number.bitWidth) bits")
        }
        return value
    }

    mutating func step(from base: UInt64) throws(FaultLogError) -> UInt64 {
        let coded = try number()
        return base &+ ((coded >> 1) ^ (0 &- (coded & 1)))
    }

    mutating func text() throws(FaultLogError) -> String {
        let start = at
        let length = try number()
        guard length <= UInt64(end - at) else {
            throw .malformed(at: start, "a text of \(length) bytes does not fit")
        }
        let range = at..<at + Int(length)
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
            throw .malformed(at: start, "a text is no UTF-8")
        }
        at = range.upperBound
        return text
    }
}

/// The check value of zlib and PNG (polynomial 0xEDB88320), eight bytes at a time.
enum CRC32 {
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for index in 0..<256 {
            var value = UInt32(index)
            for _ in 0..<8 { value = value & 1 == 1 ? (value >> 1) ^ 0xEDB8_8320 : value >> 1 }
            tables[index] = value
        }
        for index in 256..<8 * 256 {
            let before = tables[index - 256]
            tables[index] = (before >> 8) ^ tables[Int(before & 0xFF)]
        }
        return tables
    }()

    static func of(_ bytes: [UInt8], _ range: Range<Int>) -> UInt32 {
        let tables = tables
        var crc: UInt32 = 0xFFFF_FFFF
        var at = range.lowerBound
        while range.upperBound - at >= 8 {
            var next: UInt32 = 0
            for lane in 0..<8 {
                let byte = UInt32(bytes[at + lane])
                let mixed = lane < 4 ? byte ^ ((crc >> UInt32(8 * lane)) & 0xFF) : byte
                next ^= tables[(7 - lane) * 256 + Int(mixed)]
            }
            crc = next
            at += 8
        }
        while at < range.upperBound {
            crc = (crc >> 8) ^ tables[Int((crc ^ UInt32(bytes[at])) & 0xFF)]
            at += 1
        }
        return ~crc
    }
}
