import PageModel
import StreamWire

/// Two blocks of small pages around one of 2 MiB pages.
let blocks: [BlockGeometry] = makeBlocks([
    ("pc.ram", 0x10000, .target), ("m0", 0x40_0000, .size2MiB), ("/rom@etc/x", 0x2000, .target),
])

func makeBlocks(_ list: [(String, UInt64, PageSize)]) -> [BlockGeometry] {
    list.map { name, length, page in
        do throws(GeometryError) {
            return try BlockGeometry(name: name, lengthBytes: length, hostPage: page)
        } catch {
            preconditionFailure("\(error)")
        }
    }
}

extension [BlockGeometry] {
    /// As a guest has them that uses them whole.
    var listed: [ListedBlock] { map { ListedBlock($0) } }
}

let ram = BlockIndex(rawValue: 0)
let huge = BlockIndex(rawValue: 1)
let rom = BlockIndex(rawValue: 2)

func at(_ offset: UInt64) -> RAMOffset { RAMOffset(rawValue: offset) }

/// Bytes of a page that no field of the format looks like.
func pattern(_ seed: UInt8, count: Int = 4096) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(seed)) | 0x80 }
}

func bigEndian<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    stride(from: Value.bitWidth - 8, through: 0, by: -8).map {
        UInt8(truncatingIfNeeded: value >> $0)
    }
}

func name(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }

/// Writes a stream item by item.
struct StreamWriter {
    var bytes: [UInt8] = []
    private var records = RAMRecordEncoder(blocks: blocks)

    mutating func head(_ machine: String = "pc-i440fx-7.2") {
        StreamEncoder.appendHead(machineType: machine, to: &bytes)
    }
    mutating func subsection(_ text: String, _ body: [UInt8], version: UInt32 = 1) {
        bytes += [0x05] + name("configuration/" + text) + bigEndian(version) + body
    }
    mutating func start() {
        StreamEncoder.appendSectionStart(id: 2, to: &bytes)
        StreamEncoder.appendBlockList(blocks.listed, to: &bytes)
        end()
    }
    mutating func resume(last: Bool = false) {
        StreamEncoder.appendSectionResumed(id: 2, last: last, to: &bytes)
    }
    mutating func end() { StreamEncoder.appendSectionEnd(id: 2, to: &bytes) }
    mutating func page(_ block: BlockIndex, _ offset: UInt64) {
        records.appendPageHeader(block: block, offset: at(offset), to: &bytes)
        bytes += pattern(UInt8(truncatingIfNeeded: offset >> 12))
    }
    mutating func zero(_ block: BlockIndex, _ offset: UInt64) {
        records.appendZeroPage(block: block, offset: at(offset), to: &bytes)
    }
    mutating func command(_ command: Command) {
        StreamEncoder.appendCommand(command, blocks: blocks, to: &bytes)
    }
    mutating func endOfStream() { StreamEncoder.appendEndOfStream(to: &bytes) }
}

let device = DeviceSection(
    id: 9, name: "cpu", instance: 1, version: 5, state: pattern(3, count: 20))

let rtc = DeviceSection(
    id: 0x1_0000, name: "0000:00:01.0/rtc", instance: 0, version: 3,
    state: [4, 0, 0, 0, 0x7e, 0, 1, 0, 0])

let package: [UInt8] = {
    var devices: [UInt8] = []
    device.encode(to: &devices)
    return DevicePackage.encode(devices: devices)
}()

/// A whole postcopy with every command, and the block of huge pages.
let postcopyStream: [UInt8] = {
    var writer = StreamWriter()
    writer.head()
    writer.command(.openReturnPath)
    writer.command(.ping(PingValue.returnPathOpened.rawValue))
    writer.command(.postcopyAdvise(pageSizeSummary: 0x20_1000, targetPageBytes: 0x1000))
    writer.start()
    writer.resume()
    writer.page(ram, 0)
    writer.zero(ram, 0x1000)
    writer.end()
    writer.command(.switchoverStart)
    writer.command(.discard(discard(ram, [(0, 0x1000), (0x4000, 0xc000)])))
    writer.command(.discard(discard(huge, [(0x20_0000, 0x20_0000)])))
    writer.command(.ping(PingValue.beforePackage.rawValue))
    StreamEncoder.appendPackage(package, to: &writer.bytes)
    writer.command(.ping(PingValue.afterPackage.rawValue))
    writer.command(.postcopyListen)
    writer.command(.postcopyRun)
    writer.resume()
    writer.zero(huge, 0x20_0000)
    writer.zero(huge, 0x3f_f000)
    writer.page(rom, 0x1000)
    writer.end()
    writer.resume(last: true)
    writer.zero(ram, 0xf000)
    writer.end()
    writer.endOfStream()
    return writer.bytes
}()

/// A precopy whose head has every known part, with a description behind its end.
let precopyStream: [UInt8] = {
    var writer = StreamWriter()
    writer.head("")
    writer.subsection("target-page-bits", bigEndian(UInt32(12)))
    writer.subsection("capabilities", bigEndian(UInt32(0)))
    writer.subsection("uuid", pattern(1, count: 16))
    writer.start()
    writer.resume(last: true)
    writer.page(huge, 0x20_0000)
    writer.end()
    writer.endOfStream()
    writer.bytes += [0x06] + bigEndian(UInt32(2)) + Array("{}".utf8)
    return writer.bytes
}()

/// A precopy that completes with two devices, but for what describes them.
let completedStream: [UInt8] = {
    var writer = StreamWriter()
    writer.head()
    writer.start()
    writer.resume(last: true)
    writer.page(ram, 0x3000)
    writer.end()
    return writer.bytes + devicesAndEnd
}()

let devicesAndEnd: [UInt8] = {
    var bytes: [UInt8] = []
    device.encode(to: &bytes)
    rtc.encode(to: &bytes)
    return bytes + [0x00]
}()

/// As QEMU describes devices, with braces inside a string.
let description: [UInt8] = {
    let text = #"{"page_size": 4096, "devices": [{"name": "a}\"}", "fields": [{}, []]}]}"#
    return [0x06] + bigEndian(UInt32(text.utf8.count)) + Array(text.utf8)
}()

func discard(_ block: BlockIndex, _ ranges: [(UInt64, UInt64)]) -> DiscardRanges {
    DiscardRanges(
        block: block, ranges: ranges.map { DiscardRange(start: at($0.0), lengthBytes: $0.1) })
}

let returnPathMessages: [ReturnPathMessage] = [
    .pong(1), .requestPages(block: huge, start: at(0x20_0000), lengthBytes: 0x20_0000),
    .requestPages(block: huge, start: at(0), lengthBytes: 0x40_0000),
    .requestPages(block: ram, start: at(0xf000), lengthBytes: 0x1000),
    .pong(0x42), .requestPages(block: ram, start: at(0), lengthBytes: 0x10000),
    .requestPages(block: rom, start: at(0x1000), lengthBytes: 0x1000), .shut(0),
]

let returnPathStream = returnPathBytes(returnPathMessages)

/// A return path on which both sides have extensions, and the guest is refused.
let extendedMessages: [ReturnPathMessage] = [
    .pong(1), offer(2, [.refusalReason, .recovery], token), .pong(2), .heartbeat,
    .requestPages(block: ram, start: at(0x1000), lengthBytes: 0x1000),
    .refusalReason("der G\u{e4}ste sind genug\u{7}"), .pong(4), .shut(1),
]

let token = MigrationToken(high: 0x0123_4567_89ab_cdef, low: 0x00ff_fedc_ba98_7654)

let extendedStream = returnPathBytes(extendedMessages)

func returnPathBytes(_ messages: [ReturnPathMessage]) -> [UInt8] {
    var encoder = ReturnPathEncoder(blocks: blocks)
    var bytes: [UInt8] = []
    for message in messages { encoder.append(message, to: &bytes) }
    return bytes
}

let preemptStream: [UInt8] = {
    var writer = StreamWriter()
    writer.page(ram, 0x3000)
    writer.zero(ram, 0x4000)
    writer.zero(rom, 0)
    writer.page(rom, 0x1000)
    RAMRecordEncoder.appendEndOfSection(to: &writer.bytes)
    return writer.bytes
}()
