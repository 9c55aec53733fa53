/// Which devices stand in the state that a guest moved with, as far as that shows: for reading only.
///
/// QEMU's sections say nowhere how long they are. A section is taken to end at the first footer with
/// its id that is followed by another section's header or by the end. State that holds such bytes
/// makes an outline wrong, so nothing may rely on one.
///
/// Layout: 0x04; id: u32, which may be 0; name (length: u8; bytes); instance: u32; version: u32;
/// state; 0x7e; id: u32.
/// Source: `save_section_header`, `save_section_footer` (`migration/savevm.c`).
public struct DeviceOutline: Equatable, Sendable {
    /// A device and where its section stands, from its first byte up to behind its footer.
    public struct Section: Equatable, Sendable {
        public let id: UInt32
        public let name: String
        public let instance: UInt32
        public let version: UInt32
        public let range: Range<Int>
    }

    public let sections: [Section]
    /// What follows the last section that was made out; empty when that was all.
    public let rest: Range<Int>

    /// Many times the devices of a machine with all of its slots taken: bytes that have more are none.
    public static let sectionsMax = 4096

    /// Outlines the sections at `devices` of a package or of a tail. Blocking: no.
    public init(of bytes: Span<UInt8>, in devices: Range<Int>) {
        var sections: [Section] = []
        var start = devices.lowerBound
        while sections.count < Self.sectionsMax,
            let header = Header(at: start, below: devices.upperBound, in: bytes),
            let end = header.end(below: devices.upperBound, in: bytes)
        {
            sections.append(
                Section(
                    id: header.id, name: bytes.text(header.name), instance: header.instance,
                    version: header.version, range: start..<end))
            start = end
        }
        self.sections = sections
        rest = start..<devices.upperBound
    }
}

/// What may be the header of a device's section.
private struct Header {
    let id: UInt32
    let name: Range<Int>
    let instance: UInt32
    let version: UInt32

    /// Far above any device's, which count the changes of its layout.
    private static let versionMax: UInt32 = 0xffff

    /// The header that begins at `start`, or `nil` when none can.
    init?(at start: Int, below end: Int, in bytes: Span<UInt8>) {
        var cursor = WireCursor(start: start, end: end, position: 0)
        do throws(Interruption) {
            guard try cursor.u8(in: bytes) == SectionType.full else { return nil }
            id = try cursor.u32(in: bytes)
            name = try cursor.name(in: bytes)
            instance = try cursor.u32(in: bytes)
            version = try cursor.u32(in: bytes)
        } catch {
            return nil
        }
        guard version <= Self.versionMax, !name.isEmpty,
            name.allSatisfy({ (0x20...0x7e).contains(bytes[$0]) })
        else { return nil }
    }

    /// Whether a header stands at `start`, or the bytes end before it can be told.
    private static func mayBegin(at start: Int, below end: Int, in bytes: Span<UInt8>) -> Bool {
        guard start < end else { return true }
        guard bytes[start] == SectionType.full else { return false }
        let nameLength = start + 5 < end ? Int(bytes[start + 5]) : 0
        if start + 6 + nameLength + 8 > end { return true }
        return Header(at: start, below: end, in: bytes) != nil
    }

    /// Where the section ends: behind its footer.
    func end(below end: Int, in bytes: Span<UInt8>) -> Int? {
        var footer = name.upperBound + 8
        while footer + 5 <= end {
            let next = footer + 5
            if bytes[footer] == SectionType.footer, bytes.bigEndian32(at: footer + 1) == id,
                Self.mayBegin(at: next, below: end, in: bytes)
            {
                return next
            }
            footer += 1
        }
        return nil
    }
}
