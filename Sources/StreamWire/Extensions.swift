/// What a destination of ours can do beyond QEMU's protocol.
///
/// It is negotiated behind PING 1, and a stock QEMU at either end sees none of it: the source sends
/// `Extensions.question` as an ordinary PING. QEMU answers it with its PONG, as any other. A destination
/// of ours answers with `ReturnPathMessage.extensions` instead, and from then on may send what it has
/// offered. Nothing that was not offered is ever sent or used.
public struct Extensions: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32

    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// The destination says why it gives up, in front of a SHUT with an error.
    public static let refusalReason = Extensions(rawValue: 1 << 0)

    /// What this version offers. What a later one adds it may offer only to a source that asks in that
    /// version: one of this version would refuse its messages.
    public static let ours: Extensions = [.refusalReason]
    /// This version of the negotiation; a later one may add to the end of the list's payload.
    public static let version: UInt16 = 1

    /// The high half of the PING's value. QEMU's values are below 0x100.
    private static let magic: UInt16 = 0x5043

    /// The value of the PING that asks which extensions a destination has: magic: u16, version: u16.
    public static let question = UInt32(magic) << 16 | UInt32(version)

    /// Whether a PING asks for extensions, in whatever version.
    public static func areAsked(by value: UInt32) -> Bool {
        UInt16(truncatingIfNeeded: value >> 16) == magic
    }

    /// The bytes that a list may have: version and set, and what a later version adds to them.
    static let listBytes: ClosedRange<UInt16> = 6...64
    /// The bytes that a reason may have. A QEMU source takes no payload above 512, and neither do we.
    static let reasonBytes: ClosedRange<UInt16> = 1...400

    /// The beginning of a text that fits into a message; ends with a whole character.
    static func shortened(_ reason: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for scalar in reason.unicodeScalars {
            let encoded = UTF8.encode(scalar).map(Array.init) ?? []
            guard bytes.count + encoded.count <= Int(reasonBytes.upperBound) else { break }
            bytes += encoded
        }
        return bytes
    }
}
