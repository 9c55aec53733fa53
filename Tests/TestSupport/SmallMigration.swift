public import PageModel
public import StreamWire

/// The channels of a migration of one small guest, written item by item.
public struct SmallMigration: Sendable {
    /// 64 KiB of small pages, and a page of 2 MiB.
    public static let ram = BlockIndex(rawValue: 0)
    public static let huge = BlockIndex(rawValue: 1)
    public static let blocks = [
        block("ram0", 0x10000, .target), block("m0", 0x20_0000, .size2MiB),
    ]

    private static func block(
        _ name: String, _ lengthBytes: UInt64, _ page: PageSize
    ) -> BlockGeometry {
        do throws(GeometryError) {
            return try BlockGeometry(name: name, lengthBytes: lengthBytes, hostPage: page)
        } catch {
            preconditionFailure("\(error)")
        }
    }

    public var bytes: [UInt8] = []
    private var records = RAMRecordEncoder(blocks: blocks)

    public init() {}

    public mutating func begin(advises: Bool = true) {
        StreamEncoder.appendHead(machineType: "small-1", to: &bytes)
        add(.openReturnPath)
        add(.ping(1))
        if advises { add(.postcopyAdvise(pageSizeSummary: 0x20_1000, targetPageBytes: 0x1000)) }
        StreamEncoder.appendSectionStart(id: 7, to: &bytes)
        StreamEncoder.appendBlockList(Self.blocks.map { ListedBlock($0) }, to: &bytes)
        end()
    }

    public mutating func add(_ command: Command) {
        StreamEncoder.appendCommand(command, blocks: Self.blocks, to: &bytes)
    }

    public mutating func discard(_ block: BlockIndex, _ start: UInt64, _ lengthBytes: UInt64) {
        let range = DiscardRange(start: RAMOffset(rawValue: start), lengthBytes: lengthBytes)
        add(.discard(DiscardRanges(block: block, ranges: [range])))
    }

    /// A section of zero pages.
    public mutating func part(
        _ block: BlockIndex, _ offsets: some Sequence<UInt64>, isLast: Bool = false
    ) {
        StreamEncoder.appendSectionResumed(id: 7, last: isLast, to: &bytes)
        zeros(block, offsets)
        end()
    }

    public mutating func zeros(_ block: BlockIndex, _ offsets: some Sequence<UInt64>) {
        for offset in offsets {
            records.appendZeroPage(
                block: block, offset: RAMOffset(rawValue: offset), to: &bytes)
        }
    }

    /// A section with one page of content.
    public mutating func page(_ block: BlockIndex, _ offset: UInt64) {
        StreamEncoder.appendSectionResumed(id: 7, last: false, to: &bytes)
        records.appendPageHeader(
            block: block, offset: RAMOffset(rawValue: offset), to: &bytes)
        bytes += Array(repeating: 0xa5, count: Int(PageSize.target.bytes))
        end()
    }

    public mutating func package() {
        StreamEncoder.appendPackage(DevicePackage.encode(devices: Self.devices), to: &bytes)
    }

    public mutating func endOfStream() { StreamEncoder.appendEndOfStream(to: &bytes) }

    private mutating func end() { StreamEncoder.appendSectionEnd(id: 7, to: &bytes) }

    /// Two devices.
    public static let devices: [UInt8] = {
        var bytes: [UInt8] = []
        DeviceSection(id: 9, name: "cpu", instance: 1, version: 5, state: [1, 2, 3])
            .encode(to: &bytes)
        DeviceSection(id: 10, name: "clock", instance: 0, version: 2, state: [])
            .encode(to: &bytes)
        return bytes
    }()
}

extension SmallMigration {
    /// All target pages of the block of small pages.
    public static let ramPages = (0..<16).map { UInt64($0) << 12 }
    /// All target pages of the block of one large page.
    public static let hugePages = (0..<512).map { UInt64($0) << 12 }

    /// A postcopy in which page 0x3000 comes on the preempt channel.
    public static let postcopy: [UInt8] = {
        var stream = SmallMigration()
        stream.begin()
        stream.part(ram, ramPages[..<10])
        stream.page(ram, 0xa000)
        stream.part(ram, ramPages[11...])
        stream.discard(ram, 0x3000, 0x2000)
        stream.discard(ram, 0xa000, 0x1000)
        stream.discard(huge, 0, 0x20_0000)
        stream.add(.ping(2))
        stream.package()
        stream.add(.ping(4))
        stream.part(ram, [0x4000, 0xa000])
        stream.part(huge, hugePages, isLast: true)
        stream.endOfStream()
        return stream.bytes
    }()

    public static let preempt: [UInt8] = {
        var channel = SmallMigration()
        channel.zeros(ram, [0x3000])
        RAMRecordEncoder.appendEndOfSection(to: &channel.bytes)
        return channel.bytes
    }()

    public static let returnPath: [UInt8] = {
        var encoder = ReturnPathEncoder(blocks: blocks)
        var bytes: [UInt8] = []
        let messages: [ReturnPathMessage] = [
            .pong(1), .pong(2), .pong(4),
            .requestPages(block: ram, start: RAMOffset(rawValue: 0x3000), lengthBytes: 0x1000),
            .requestPages(block: huge, start: RAMOffset(rawValue: 0), lengthBytes: 0x20_0000),
            .pong(3), .pong(0x42), .shut(0),
        ]
        for message in messages { encoder.append(message, to: &bytes) }
        return bytes
    }()

    /// A precopy up to the byte that ends the stream, without what describes the devices.
    public static let precopy: [UInt8] = {
        var stream = SmallMigration()
        stream.begin(advises: false)
        stream.part(ram, ramPages)
        stream.part(huge, hugePages, isLast: true)
        return stream.bytes + devices + [0x00]
    }()

    public static let description: [UInt8] = {
        let text = #"{"page_size": 4096, "devices": [{"name": "cpu"}, {"name": "clock"}]}"#
        return [0x06, 0, 0, 0, UInt8(text.utf8.count)] + Array(text.utf8)
    }()
}
