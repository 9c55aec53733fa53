/// A part of the configuration in a stream's head, for reading.
///
/// Layout: 0x05; name (length: u8; bytes); version: u32; body, see `ConfigurationSubsection`.
/// Source: `vmstate_configuration` (`migration/savevm.c`).
public enum HeadSubsection: Equatable, Sendable {
    case targetPageBits(UInt32)
    /// Those that both sides must have on, or off.
    case capabilities([String])
    /// 16 bytes.
    case uuid([UInt8])

    /// The parts that follow the machine type of a head that a `StreamDecoder` has taken.
    /// - Throws: never for such bytes.
    public static func decode(
        _ configuration: Span<UInt8>
    ) throws(WireError) -> [HeadSubsection] {
        var parts: [HeadSubsection] = []
        var cursor = WireCursor(start: 0, end: configuration.count, position: 0)
        do throws(Interruption) {
            while cursor.available > 0 {
                parts.append(try decode(at: &cursor, in: configuration))
            }
        } catch {
            throw cursor.failure(error, reading: .head)
        }
        return parts
    }

    private static func decode(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> HeadSubsection {
        _ = try cursor.u8(in: bytes)
        let name = bytes.text(try cursor.name(in: bytes))
        let nameField = cursor.field
        _ = try cursor.u32(in: bytes)
        switch ConfigurationSubsection(rawValue: name) {
        case .targetPageBits: return .targetPageBits(try cursor.u32(in: bytes))
        case .uuid:
            let first = try cursor.take(16)
            return .uuid(bytes.copy(first..<first + 16))
        case .capabilities:
            var names: [String] = []
            for _ in 0..<(try cursor.u32(in: bytes)) {
                names.append(bytes.text(try cursor.name(in: bytes)))
            }
            return .capabilities(names)
        case nil:
            throw cursor.refusal(.unknownConfigurationSubsection(name), at: nameField)
        }
    }
}
