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

    /// Both sides take up a link that broke: the list of extensions brings the migration's token, each
    /// further channel says hello, either side may send heartbeats, and the destination says how it
    /// stands when a link comes back.
    public static let recovery = Extensions(rawValue: 1 << 1)

    /// This version of the negotiation; a later one may add to the end of the list's payload.
    public static let version: UInt16 = 2

    /// What this version offers to a source that asks in version `asked`: nothing that such a source
    /// would refuse.
    public static func ours(forVersion asked: UInt16) -> Extensions {
        asked < 2 ? [.refusalReason] : [.refusalReason, .recovery]
    }

    /// The high half of the PING's value. QEMU's values are below 0x100.
    private static let magic: UInt16 = 0x5043

    /// The value of the PING that asks which extensions a destination has: magic: u16, version: u16.
    public static let question = UInt32(magic) << 16 | UInt32(version)

    /// The version in which a PING asks for extensions; `nil` for a PING that does not.
    public static func version(askedBy value: UInt32) -> UInt16? {
        guard UInt16(truncatingIfNeeded: value >> 16) == magic else { return nil }
        return UInt16(truncatingIfNeeded: value)
    }

    /// Whether a PING asks in a version that recovery is offered to.
    public static func offersRecovery(askedBy value: UInt32) -> Bool {
        version(askedBy: value).map(ours(forVersion:))?.contains(.recovery) == true
    }

    /// The bytes that a list may have: version and set, a token, and what a later version adds.
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

/// What a destination offers to a source that asked.
///
/// Layout: version: u16; set: u32; with `recovery` in it, token: 16 bytes.
public struct ExtensionOffer: Equatable, Sendable {
    public let version: UInt16
    public let extensions: Extensions
    /// Names the migration from here on; there is one exactly when `recovery` is offered.
    public let token: MigrationToken?

    /// A token is dropped unless `recovery` is offered.
    /// - Precondition: `recovery` is offered with a token.
    public init(version: UInt16, extensions: Extensions, token: MigrationToken?) {
        let hasRecovery = extensions.contains(.recovery)
        precondition(!hasRecovery || token != nil, "a recovery needs a token")
        self.version = version
        self.extensions = extensions
        self.token = hasRecovery ? token : nil
    }

    var payloadBytes: UInt16 {
        Extensions.listBytes.lowerBound + (token == nil ? 0 : UInt16(MigrationToken.wireBytes))
    }

    func append(to output: inout [UInt8]) {
        output.appendBigEndian(version)
        output.appendBigEndian(extensions.rawValue)
        token?.append(to: &output)
    }
}
