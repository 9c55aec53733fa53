internal import PlainJSON
internal import Postcopy
internal import StreamWire

/// What `machine.json` says of a parked machine: all but its memory and its devices.
///
/// JSON, since both people and programs read it; by hand, since Foundation must not come into a VMM
/// that links this module. The order of the blocks is that of the source's list.
struct ParkManifest: Equatable, Sendable {
    var origin: String
    var machineType: String
    var configuration: [UInt8]
    var ramSectionID: UInt32
    var devicesBytes: Int
    var devicesChecksum: UInt32
    var blocks: [StreamIntroduction.Block]

    static let format: UInt64 = 1
    private static let kind = "postcopy parked machine"

    static let fileName = "machine.json"
    static let devicesFileName = "devices.bin"
    /// A block's name comes from a peer, may hold anything and be as long as a file's can: it never
    /// names a file.
    static func fileName(ofBlock index: Int) -> String { "block-\(index).ram" }

    /// Whether a parking could have made a file of that name.
    static func isOwn(_ name: String) -> Bool {
        name == fileName || name == devicesFileName
            || (0..<ParkedMachine.blocksMax).contains { name == fileName(ofBlock: $0) }
    }

    /// The longest possible one: 256 names of 255 bytes, each written as `\u0000`, are 400 KiB, and the
    /// longest configuration 256 KiB.
    static let bytesMax = 1 << 20

    /// Source: `ram_pagesize_summary` of QEMU (`migration/ram.c`).
    var pageSizeSummary: UInt64 { blocks.reduce(0) { $0 | $1.hostPage.bytes } }

    func encoded() -> [UInt8] {
        let listed = blocks.enumerated().map { index, block in
            """
                {"name": \(JSONValue.quoted(block.name)), "usedBytes": \(block.usedBytes), \
            "hostPageBytes": \(block.hostPage.bytes), "file": "\(Self.fileName(ofBlock: index))"}
            """
        }
        let text = """
            {
              "kind": "\(Self.kind)",
              "format": \(Self.format),
              "origin": \(JSONValue.quoted(origin)),
              "machineType": \(JSONValue.quoted(machineType)),
              "configuration": "\(Hexadecimal.text(configuration))",
              "ramSectionID": \(ramSectionID),
              "pageSizeSummary": \(pageSizeSummary),
              "devices": {"file": "\(Self.devicesFileName)", "bytes": \(devicesBytes), \
            "crc32": "\(Hexadecimal.text(devicesChecksum))"},
              "blocks": [
            \(listed.joined(separator: ",\n"))
              ]
            }

            """
        return Array(text.utf8)
    }

    /// Reads a manifest and checks all that can be checked without the other files.
    /// - Parameter path: names the file in a refusal.
    init(decoding bytes: [UInt8], path: String) throws(ParkError) {
        let fields: ManifestFields
        do throws(JSONFault) {
            fields = ManifestFields(try JSONValue(parsing: bytes), path: path)
        } catch { throw .damaged(path: path, reason: "\(error)") }
        guard try fields.text("kind") == Self.kind else {
            throw .damaged(path: path, reason: "'kind' is not '\(Self.kind)'")
        }
        let format = try fields.number("format")
        guard format == Self.format else { throw .unknownFormat(path: path, found: format) }
        origin = try fields.text("origin", bytesMax: ParkedMachine.originBytesMax)
        machineType = try fields.text("machineType", bytesMax: ParkedMachine.machineTypeBytesMax)
        configuration = try fields.bytes(
            "configuration", bytesMax: ParkedMachine.configurationBytesMax)
        ramSectionID = UInt32(try fields.number("ramSectionID", in: 1...UInt64(UInt32.max)))
        let devices = try fields.object("devices")
        try devices.expect("file", Self.devicesFileName)
        devicesBytes = Int(
            try devices.number("bytes", in: 0...UInt64(ParkedMachine.devicesBytesMax)))
        devicesChecksum = try devices.checksum("crc32")
        blocks = []
        for (index, block) in try fields.list("blocks").enumerated() {
            try block.expect("file", Self.fileName(ofBlock: index))
            blocks.append(try Self.block(block))
        }
        do throws(ParkError) { try ParkedMachine.check(blocks.map(\.name)) } catch {
            throw fields.fault("blocks", "\(error)")
        }
        guard try fields.number("pageSizeSummary") == pageSizeSummary else {
            throw fields.fault("pageSizeSummary", "is not that of the blocks, \(pageSizeSummary)")
        }
    }

    private static func block(
        _ fields: ManifestFields
    ) throws(ParkError) -> StreamIntroduction.Block {
        let pageBytes = try fields.number("hostPageBytes")
        guard let page = PageSize(bytes: pageBytes) else {
            throw fields.fault(
                "hostPageBytes", "is \(pageBytes) and no power of two from 4096 to 2^30")
        }
        let block = StreamIntroduction.Block(
            name: try fields.text("name"), usedBytes: try fields.number("usedBytes"),
            hostPage: page)
        do throws(ParkError) { _ = try ParkedMachine.geometry(of: block) } catch {
            throw fields.fault(nil, "\(error)")
        }
        return block
    }
}

extension ParkManifest {
    init(of machine: ParkedMachine, devices: [UInt8]) {
        origin = machine.origin
        machineType = machine.machineType
        configuration = machine.streamIdentity.configuration
        ramSectionID = machine.streamIdentity.ramSection
        devicesBytes = devices.count
        devicesChecksum = Checksum.crc32(of: devices.span)
        blocks = machine.memory.map { ram in
            StreamIntroduction.Block(
                name: ram.geometry.name, usedBytes: ram.usedBytes, hostPage: ram.geometry.hostPage)
        }
    }
}
