/// Says to which migration a channel belongs, and as which of its channels: the first bytes of an
/// urgent channel, and of a main channel that resumes one. Only between peers that agreed on
/// `Extensions.recovery`.
///
/// Layout, that of a command: 0x08; 0x5043: u16; 24: u16; token: 16 bytes; channel: u32; attempt: u32.
public struct ChannelHello: Equatable, Sendable {
    public enum Channel: UInt32, Sendable, CaseIterable {
        case main = 0
        case urgent = 1
    }

    public let token: MigrationToken
    public let channel: Channel
    /// Which link of the migration it is for: 0 for the first.
    public let attempt: UInt32

    /// What an encoded one takes.
    public static let wireBytes = 29

    static let payloadBytes: UInt16 = 24
    /// The command's header, by which a hello is told from all else that may begin a channel.
    private static let header: [UInt8] = [SectionType.command, 0x50, 0x43, 0x00, 0x18]

    public init(token: MigrationToken, channel: Channel, attempt: UInt32) {
        self.token = token
        self.channel = channel
        self.attempt = attempt
    }

    public func append(to output: inout [UInt8]) {
        output += Self.header
        token.append(to: &output)
        output.appendBigEndian(channel.rawValue)
        output.appendBigEndian(attempt)
    }

    /// Whether bytes that begin with `bytes` can be a hello, as far as its header tells; no bytes can.
    public static func mayBegin(_ bytes: Span<UInt8>) -> Bool {
        indexOfDifference(bytes) == nil
    }

    /// Decodes the first bytes of a channel; `nil` when more than these are needed.
    /// - Throws: as soon as the bytes cannot begin a hello.
    public static func decode(_ bytes: Span<UInt8>) throws(WireError) -> ChannelHello? {
        if let index = indexOfDifference(bytes) {
            throw WireError(kind: .notHello(bytes[index]), position: UInt64(index))
        }
        guard bytes.count >= header.count else { return nil }
        var cursor = WireCursor(
            start: header.count, end: bytes.count, position: UInt64(header.count))
        do throws(Interruption) {
            return try decodePayload(at: &cursor, in: bytes)
        } catch {
            guard case .refused(let error) = error else { return nil }
            throw error
        }
    }

    static func decodePayload(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> ChannelHello {
        let token = try cursor.token(in: bytes)
        let number = try cursor.u32(in: bytes)
        guard let channel = Channel(rawValue: number) else {
            throw cursor.refusal(.unknownChannel(number))
        }
        return ChannelHello(
            token: token, channel: channel, attempt: try cursor.u32(in: bytes))
    }

    /// The first byte that no hello has there.
    private static func indexOfDifference(_ bytes: Span<UInt8>) -> Int? {
        (0..<min(header.count, bytes.count)).first { bytes[$0] != header[$0] }
    }
}
