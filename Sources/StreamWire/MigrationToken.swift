/// Names one migration, so that a link that comes back later is known as part of it.
///
/// Layout: high: u64; low: u64.
public struct MigrationToken: Hashable, Sendable, CustomStringConvertible {
    public let high: UInt64
    public let low: UInt64

    static let wireBytes = 16

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A token that nobody can guess.
    public static func random() -> MigrationToken {
        var random = SystemRandomNumberGenerator()
        return MigrationToken(high: random.next(), low: random.next())
    }

    /// 32 hexadecimal digits.
    public var description: String { Self.hex(high) + Self.hex(low) }

    private static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    func append(to output: inout [UInt8]) {
        output.appendBigEndian(high)
        output.appendBigEndian(low)
    }
}

extension WireCursor {
    mutating func token(in bytes: Span<UInt8>) throws(Interruption) -> MigrationToken {
        let first = try take(MigrationToken.wireBytes)
        return MigrationToken(
            high: bytes.bigEndian64(at: first), low: bytes.bigEndian64(at: first + 8))
    }
}
