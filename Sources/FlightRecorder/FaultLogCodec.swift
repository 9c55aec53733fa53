/// A `FaultLog` as a compact file.
///
/// Layout: `PCFAULTS`, version (u16), 0 (u16), then sections up to the last, whose kind is `end` and
/// behind which nothing follows. A section is its kind (u8), the length of its body (u32), the body, and
/// the CRC-32 of all that (u32). Numbers of fixed width are little-endian, those of a body LEB128.
public enum FaultLogCodec {
    static let magic = Array("PCFAULTS".utf8)
    static let version: UInt16 = 1
    /// Magic, version and the word behind it.
    private static let headBytes = 12
    /// Kind and length; with the check value behind the body 9 bytes for each section.
    private static let sectionHeadBytes = 5
    private static let checkBytes = 4
    /// Records in a section: damage costs at most these, and is named to within 100 KiB or so.
    private static let sectionRecordsMax = 4_096
    /// Records of a kind: a ring keeps 131,072, and 32 times that take 256 MiB of memory at most.
    static let recordsMax = 1 << 22

    private enum Kind: UInt8 {
        case end = 0
        case blocks = 1
        case destination = 2
        case source = 3
        case waits = 4
        case placements = 5
        case services = 6
    }

    /// Whether bytes are meant to be a fault log: whether they begin like one.
    public static func begins(_ bytes: some Sequence<UInt8>) -> Bool { bytes.starts(with: magic) }

    /// The file's bytes.
    public static func encode(_ log: FaultLog) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(magic)
        writer.fixed(version)
        writer.fixed(UInt16(0))
        write(.blocks, to: &writer) { $0.blocks(log.blocks) }
        if let destination = log.destination {
            write(.destination, to: &writer) { $0.head(of: destination) }
            write(destination.waits, as: .waits, to: &writer)
            write(destination.placements, as: .placements, to: &writer)
        }
        if let source = log.source {
            write(.source, to: &writer) { $0.head(of: source) }
            write(source.services, as: .services, to: &writer)
        }
        write(.end, to: &writer) { _ in }
        return writer.bytes
    }

    /// What the file says.
    /// - Throws: for a file that is cut, damaged or no fault log; nothing is taken from such a one.
    public static func decode(_ bytes: [UInt8]) throws(FaultLogError) -> FaultLog {
        var at = try head(bytes)
        var content = Content()
        var seen: Set<Kind> = []
        while true {
            let (kind, body) = try section(bytes, at: at)
            guard seen.isEmpty == (kind == .blocks) else {
                throw .malformed(at: at, "the blocks stand first, and once")
            }
            let isHead = kind == .destination || kind == .source
            guard seen.insert(kind).inserted || !isHead else {
                throw .malformed(at: at, "a side is there twice")
            }
            var reader = ByteReader(bytes, body)
            try content.take(kind, from: &reader)
            guard reader.isAtEnd else { throw .malformed(at: reader.at, "bytes are left over") }
            at = body.upperBound + checkBytes
            if kind == .end { break }
        }
        guard at == bytes.count else { throw .malformed(at: at, "bytes follow its end") }
        return content.log
    }
}

extension FaultLogCodec {
    private static func write(
        _ kind: Kind, to writer: inout ByteWriter, _ body: (inout ByteWriter) -> Void
    ) {
        let start = writer.bytes.count
        writer.byte(kind.rawValue)
        writer.fixed(UInt32(0))
        body(&writer)
        let length = writer.bytes.count - start - sectionHeadBytes
        writer.patch(UInt32(length), at: start + 1)
        writer.fixed(CRC32.of(writer.bytes, start..<writer.bytes.count))
    }

    private static func write(
        _ records: [some RecordCoding], as kind: Kind, to writer: inout ByteWriter
    ) {
        for start in stride(from: 0, to: records.count, by: sectionRecordsMax) {
            write(kind, to: &writer) { writer in
                writer.records(records[start..<min(start + sectionRecordsMax, records.count)])
            }
        }
    }

    /// Where the first section begins.
    private static func head(_ bytes: [UInt8]) throws(FaultLogError) -> Int {
        guard begins(bytes) else {
            throw !bytes.isEmpty && magic.starts(with: bytes) ? .cut(at: bytes.count) : .foreign
        }
        guard bytes.count >= headBytes else { throw .cut(at: bytes.count) }
        let found = UInt16(bytes[8]) | UInt16(bytes[9]) << 8
        guard found <= version else { throw .newer(version: found) }
        guard found == version, bytes[10] == 0, bytes[11] == 0 else {
            throw .malformed(at: 8, "no program has written this version")
        }
        return headBytes
    }

    private static func section(
        _ bytes: [UInt8], at start: Int
    ) throws(FaultLogError) -> (kind: Kind, body: Range<Int>) {
        guard bytes.count - start >= sectionHeadBytes + checkBytes else {
            throw .cut(at: bytes.count)
        }
        let length = Int(fixed(bytes, at: start + 1))
        let body = start + sectionHeadBytes
        guard bytes.count - body - checkBytes >= length else { throw .cut(at: bytes.count) }
        let end = body + length
        guard CRC32.of(bytes, start..<end) == fixed(bytes, at: end) else {
            throw .damaged(at: start)
        }
        guard let kind = Kind(rawValue: bytes[start]) else {
            throw .malformed(at: start, "there is no section of kind \(bytes[start])")
        }
        return (kind, body..<end)
    }

    private static func fixed(_ bytes: [UInt8], at place: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
    }

    /// What was read so far.
    private struct Content {
        private(set) var log = FaultLog()

        mutating func take(_ kind: Kind, from reader: inout ByteReader) throws(FaultLogError) {
            switch kind {
            case .end: break
            case .blocks: log.blocks = try reader.blocks()
            case .destination: log.destination = try reader.destination()
            case .source: log.source = try reader.source()
            case .waits: try Self.take(&log.destination, \.waits, from: &reader)
            case .placements: try Self.take(&log.destination, \.placements, from: &reader)
            case .services: try Self.take(&log.source, \.services, from: &reader)
            }
        }

        private static func take<Side, Record: RecordCoding>(
            _ side: inout Side?, _ records: WritableKeyPath<Side, [Record]>,
            from reader: inout ByteReader
        ) throws(FaultLogError) {
            guard var known = side else {
                throw .malformed(at: reader.at, "records come before the side that they are of")
            }
            // Not shared while it grows.
            side = nil
            try reader.records(into: &known[keyPath: records])
            side = known
        }
    }
}
