/// Reading and writing the wire's integers, which are big-endian: every index is checked, and
/// alignment never matters.
extension Span<UInt8> {
    func bigEndian16(at index: Int) -> UInt16 {
        UInt16(self[index]) << 8 | UInt16(self[index + 1])
    }

    func bigEndian32(at index: Int) -> UInt32 {
        UInt32(bigEndian16(at: index)) << 16 | UInt32(bigEndian16(at: index + 2))
    }

    func bigEndian64(at index: Int) -> UInt64 {
        UInt64(bigEndian32(at: index)) << 32 | UInt64(bigEndian32(at: index + 4))
    }

    /// A copy of the bytes in `range`. Allocates: only for refusals and for names that are kept.
    func copy(_ range: Range<Int>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        for index in range { bytes.append(self[index]) }
        return bytes
    }

    /// The peer's name for a refusal; bytes that are not UTF-8 show as replacement characters.
    func text(_ range: Range<Int>) -> String {
        String(decoding: copy(range), as: UTF8.self)
    }

    func equals(_ bytes: [UInt8], at range: Range<Int>) -> Bool {
        guard bytes.count == range.count else { return false }
        var index = 0
        while index < bytes.count {
            if bytes[index] != self[range.lowerBound + index] { return false }
            index += 1
        }
        return true
    }
}

extension MutableSpan<UInt8> {
    /// Overwrites eight bytes at once: for discards, of which there are millions.
    mutating func storeBigEndian(_ value: UInt64, at index: Int) {
        // SAFETY: `storeBytes` checks that all eight bytes are inside, and needs no alignment.
        var bytes = unsafe mutableBytes
        bytes.storeBytes(of: value.bigEndian, toByteOffset: index, as: UInt64.self)
    }
}

extension [UInt8] {
    mutating func appendBigEndian<Value: FixedWidthInteger & UnsignedInteger>(_ value: Value) {
        var shift = Value.bitWidth
        while shift > 0 {
            shift -= 8
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }

    /// Layout: length: u8; name: that many bytes, no NUL.
    /// - Precondition: `name` is at most 255 bytes long.
    mutating func appendName(_ name: some Collection<UInt8>) {
        precondition(name.count <= 255, "a wire name has one length byte")
        append(UInt8(name.count))
        append(contentsOf: name)
    }
}
