/// The state of one device in a package of our own.
///
/// QEMU's device sections say nowhere how long they are. Ours do, so that a reader can skip the
/// devices that it does not know; the framing around the body is QEMU's.
///
/// Layout: 0x04; id: u32; name (length: u8; bytes); instance: u32; version: u32; length: u32;
/// state: bytes; then the footer 0x7e; id: u32.
/// Source: framing by `save_section_header`, `save_section_footer` (`migration/savevm.c`).
public struct DeviceSection: Equatable, Sendable {
    public let id: UInt32
    public let name: String
    public let instance: UInt32
    public let version: UInt32
    public let state: [UInt8]

    /// - Precondition: `id` is not 0, as QEMU takes 0 for no section; `name` is 1 to 255 bytes
    ///   long; `state` is shorter than 4 GiB.
    public init(id: UInt32, name: String, instance: UInt32, version: UInt32, state: [UInt8]) {
        precondition(id != 0, "a section id is not 0")
        precondition((1...255).contains(name.utf8.count), "a wire name is 1 to 255 bytes long")
        precondition(state.count <= Int(UInt32.max), "a device's state is below 4 GiB")
        self.id = id
        self.name = name
        self.instance = instance
        self.version = version
        self.state = state
    }

    public func encode(to output: inout [UInt8]) {
        output.append(SectionType.full)
        output.appendBigEndian(id)
        output.appendName(name.utf8)
        output.appendBigEndian(instance)
        output.appendBigEndian(version)
        output.appendBigEndian(UInt32(state.count))
        output.append(contentsOf: state)
        StreamEncoder.appendFooter(id: id, to: &output)
    }

    /// Decodes the section that begins at `devices.lowerBound` of a package, and answers it with
    /// the index behind it, which is `devices.upperBound` after the last one.
    /// - Parameter blobPosition: where the blob's first byte stands in its channel.
    public static func decode(
        _ blob: Span<UInt8>, in devices: Range<Int>, at blobPosition: UInt64
    ) throws(WireError) -> (section: DeviceSection, next: Int) {
        precondition(devices.upperBound <= blob.count, "the devices are inside their package")
        var cursor = WireCursor(
            start: devices.lowerBound, end: devices.upperBound,
            position: blobPosition + UInt64(devices.lowerBound))
        do throws(Interruption) {
            let section = try decode(at: &cursor, in: blob)
            return (section, devices.lowerBound + cursor.consumed)
        } catch {
            throw cursor.failure(error, reading: .deviceSection)
        }
    }

    private static func decode(
        at cursor: inout WireCursor, in bytes: Span<UInt8>
    ) throws(Interruption) -> DeviceSection {
        let type = try cursor.u8(in: bytes)
        guard type == SectionType.full else { throw cursor.refusal(.unknownSectionType(type)) }
        let id = try cursor.u32(in: bytes)
        guard id != 0 else { throw cursor.refusal(.badSectionID(id)) }
        let name = try cursor.name(in: bytes)
        guard !name.isEmpty, let text = String(validating: bytes.copy(name), as: UTF8.self) else {
            throw cursor.refusal(.badDeviceName(bytes.text(name)))
        }
        let instance = try cursor.u32(in: bytes)
        let version = try cursor.u32(in: bytes)
        let length = Int(try cursor.u32(in: bytes))
        let first = try cursor.take(length)
        let state = first..<first + length
        try cursor.footer(of: id, in: bytes)
        return DeviceSection(
            id: id, name: text, instance: instance, version: version, state: bytes.copy(state))
    }
}
