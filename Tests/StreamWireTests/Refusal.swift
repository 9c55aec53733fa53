import PageModel
import StreamWire
import Testing

/// Bytes that must be refused, behind a valid beginning.
struct Refusal: Sendable, CustomTestStringConvertible {
    enum Beginning: Sendable {
        case nothing, head, sectionStart, memorySize, packaged, part, zeroPage, end
    }

    let beginning: Beginning
    let bytes: [UInt8]
    let kind: WireError.Kind
    /// Where the field at fault begins, counted from the first of `bytes`.
    let field: Int

    init(_ beginning: Beginning, _ bytes: [UInt8], _ kind: WireError.Kind, field: Int) {
        self.beginning = beginning
        self.bytes = bytes
        self.kind = kind
        self.field = field
    }

    var testDescription: String { "\(kind)" }

    /// The valid beginning.
    var prelude: [UInt8] {
        var writer = StreamWriter()
        if beginning == .nothing { return [] }
        writer.head()
        if beginning == .head { return writer.bytes }
        if beginning == .sectionStart || beginning == .memorySize {
            StreamEncoder.appendSectionStart(id: 2, to: &writer.bytes)
            if beginning == .memorySize { writer.bytes += word(totalBytes, 4) }
            return writer.bytes
        }
        writer.start()
        if beginning == .packaged {
            StreamEncoder.appendPackage(package, to: &writer.bytes)
            return writer.bytes
        }
        writer.resume(last: beginning == .end)
        if beginning == .zeroPage { writer.zero(ram, 0) }
        if beginning == .end { writer.end() }
        return writer.bytes
    }
}

let totalBytes = blocks.reduce(UInt64(0)) { $0 + $1.lengthBytes }

func word(_ offset: UInt64, _ flags: UInt64) -> [UInt8] { bigEndian(offset | flags) }

private func command(_ number: UInt16, _ payload: [UInt8]) -> [UInt8] {
    [8] + bigEndian(number) + bigEndian(UInt16(payload.count)) + payload
}

private func discarding(_ block: String, _ ranges: [UInt64], end: UInt8 = 0) -> [UInt8] {
    command(6, [0] + name(block) + [end] + ranges.flatMap { bigEndian($0) })
}

private let magic: [UInt8] = [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 7]
private let anyMachine: [UInt8] = magic + [0, 0, 0, 0]

private func part(_ text: String, _ version: UInt32, _ body: [UInt8] = []) -> [UInt8] {
    [5] + name("configuration/" + text) + bigEndian(version) + body
}

private let headRefusals: [Refusal] = [
    Refusal(.nothing, [0x51, 0x45, 0x56, 0x4c], .badMagic(0x5145_564c), field: 0),
    Refusal(.nothing, Array(magic.prefix(7)) + [2], .badVersion(2), field: 4),
    Refusal(.nothing, Array(magic.prefix(8)) + [1], .missingConfiguration(1), field: 8),
    Refusal(
        .nothing, magic + [0, 0, 1, 0], .nameTooLong(lengthBytes: 256, maximum: 255), field: 9),
    Refusal(.nothing, magic + [0, 0, 0, 1, 0xff], .nameNotText, field: 13),
    Refusal(
        .nothing, magic + [0, 0, 0, 3] + Array("q35".utf8),
        .machineMismatch("q35", expected: "pc-i440fx-7.2"), field: 13),
    Refusal(
        .nothing, magic + [0, 0, 0, 15] + Array("pc-i440fx-7.2.1".utf8),
        .machineMismatch("pc-i440fx-7.2.1", expected: "pc-i440fx-7.2"), field: 13),
    Refusal(
        .nothing, anyMachine + part("x", 1),
        .unknownConfigurationSubsection("configuration/x"), field: 14),
    Refusal(
        .nothing,
        anyMachine + part("capabilities", 1, [0, 0, 0, 0]) + part("capabilities", 1, [0, 0, 0, 0]),
        .repeatedConfigurationSubsection("configuration/capabilities"), field: 50),
    Refusal(.nothing, anyMachine + part("uuid", 2), .badSubsectionVersion(2), field: 33),
    Refusal(
        .nothing, anyMachine + part("target-page-bits", 1, [0, 0, 0, 14]),
        .badTargetPageBits(14), field: 49),
    Refusal(
        .nothing, anyMachine + part("capabilities", 1, [0, 0, 0, 1] + name("mapped-ram")),
        .unsupportedCapability("mapped-ram"), field: 49),
    Refusal(
        .nothing, anyMachine + part("capabilities", 1, [0, 0, 0, 1] + name("x-ignore-shared")),
        .ignoreSharedDiffers(ours: false), field: 49),
]

private let id2: [UInt8] = [0, 0, 0, 2]
private let ramHeader: [UInt8] = [1] + id2 + name("ram")

private let sectionRefusals: [Refusal] = [
    Refusal(.head, [0x7e], .unknownSectionType(0x7e), field: 0),
    Refusal(.head, [0x06], .unknownSectionType(6), field: 0),
    Refusal(
        .head, [4, 0, 0, 0, 5] + name("virtio-mem"), .deviceBeforeMemory("virtio-mem"), field: 0),
    Refusal(.packaged, [4], .misplaced(.devicesAfterPackage), field: 0),
    Refusal(.head, [1, 0, 0, 0, 0], .badSectionID(0), field: 1),
    Refusal(.head, [1] + id2 + name("block"), .unknownSection("block"), field: 5),
    Refusal(.head, ramHeader + [0, 0, 0, 1], .badSectionInstance(1), field: 9),
    Refusal(
        .head, ramHeader + [0, 0, 0, 0, 0, 0, 0, 5], .unsupportedSectionVersion(5), field: 13),
    Refusal(.head, [2] + id2, .unboundSectionID(2), field: 1),
    Refusal(
        .zeroPage, word(0, 0x10) + [0x7e, 0, 0, 0, 3], .footerIDMismatch(3, expected: 2),
        field: 9),
    Refusal(.part, word(0, 0x10) + [0x02], .badFooter(2), field: 8),
    Refusal(.end, ramHeader, .misplaced(.secondSectionStart), field: 0),
    Refusal(.end, [1] + id2 + name("dirty-bitmap"), .unknownSection("dirty-bitmap"), field: 5),
    Refusal(.end, [2], .misplaced(.sectionAfterSectionEnd), field: 0),
    Refusal(.end, [3], .misplaced(.sectionAfterSectionEnd), field: 0),
]

private let listRefusals: [Refusal] = [
    Refusal(.sectionStart, word(0, 8), .misplaced(.ramRecordBeforeBlockList), field: 0),
    Refusal(.sectionStart, word(0, 0x22), .misplaced(.ramRecordBeforeBlockList), field: 0),
    Refusal(.sectionStart, word(0, 0x10), .misplaced(.ramRecordBeforeBlockList), field: 0),
    Refusal(.sectionStart, word(0x1000, 6), .badPageFlags(6), field: 0),
    Refusal(.sectionStart, word(0, 4), .blockListTotalMismatch(totalBytes: 0), field: 0),
    Refusal(
        .sectionStart, word(0x1000, 4) + name("pc.ram") + bigEndian(UInt64(0x10000)),
        .blockListTotalMismatch(totalBytes: 0x1000), field: 15),
    Refusal(.memorySize, name("vga"), .unknownBlock("vga"), field: 0),
    Refusal(
        .memorySize, name("pc.ram") + bigEndian(UInt64(0x20000)),
        .blockLengthMismatch(block: "pc.ram", ours: 0x10000, theirs: 0x20000), field: 7),
    Refusal(
        .memorySize, name("m0") + bigEndian(UInt64(0x40_0000)) + bigEndian(UInt64(4096)),
        .blockPageSizeMismatch(block: "m0", ours: 0x20_0000, theirs: 4096), field: 11),
    Refusal(
        .memorySize, name("pc.ram") + bigEndian(UInt64(0x10000)) + name("pc.ram"),
        .repeatedBlock("pc.ram"), field: 15),
]

private let recordRefusals: [Refusal] =
    [0, 0x01, 0x0a, 0x30, 0x40, 0x80, 0x100, 0x200, 0x24, 0x800].map { (flags: UInt64) in
        Refusal(.zeroPage, word(0, flags), .badPageFlags(flags), field: 0)
    } + [
        Refusal(.part, word(0, 4), .blockListTotalMismatch(totalBytes: 0), field: 0),
        Refusal(.part, word(0, 0x28), .continueWithoutBlock, field: 0),
        Refusal(.part, word(0, 0x22), .continueWithoutBlock, field: 0),
        Refusal(.part, word(0, 8) + name("pc.rom"), .unknownBlock("pc.rom"), field: 8),
        Refusal(
            .part, word(0x10000, 8) + name("pc.ram"),
            .offsetOutsideBlock(block: "pc.ram", offset: 0x10000, lengthBytes: 0x10000), field: 0),
        Refusal(
            .zeroPage, word(~0xfff, 0x28),
            .offsetOutsideBlock(block: "pc.ram", offset: ~0xfff, lengthBytes: 0x10000), field: 0),
        Refusal(.zeroPage, word(0, 0x22) + [7], .nonZeroFill(7), field: 8),
    ]

private let commandRefusals: [Refusal] =
    [0, 12, 0xffff].map { (number: UInt16) in
        Refusal(.head, command(number, []), .unknownCommand(number), field: 1)
    } + [
        Refusal(.head, command(3, []), .unsupportedCommand(3), field: 3),
        Refusal(.head, command(8, []), .unsupportedCommand(8), field: 1),
        Refusal(.head, command(9, []), .misplaced(.recoveryOnFirstLink), field: 1),
        Refusal(.head, command(10, name("m0")), .misplaced(.recoveryOnFirstLink), field: 1),
        Refusal(.head, command(3, [0]), .badCommandLength(command: 3, lengthBytes: 1), field: 3),
        Refusal(.head, command(4, [0]), .badCommandLength(command: 4, lengthBytes: 1), field: 3),
        Refusal(.head, command(2, []), .badCommandLength(command: 2, lengthBytes: 0), field: 3),
        Refusal(
            .head, command(6, Array(repeating: 0, count: 19)),
            .badCommandLength(command: 6, lengthBytes: 19), field: 3),
        Refusal(.head, command(7, bigEndian(UInt32(18))), .packageTooShort(18), field: 5),
        Refusal(
            .head, command(7, bigEndian(UInt32.max)),
            .packageTooLong(.max, maximum: 64 << 20), field: 5),
    ]

private let discardRefusals: [Refusal] = [
    Refusal(
        .head, command(6, [1] + Array(repeating: 0, count: 19)), .discardBadVersion(1), field: 5),
    Refusal(
        .head, command(6, [0] + name("m0") + Array(repeating: 0, count: 18)),
        .badCommandLength(command: 6, lengthBytes: 22), field: 3),
    Refusal(
        .head, command(6, [0, 0xff] + Array(repeating: 0, count: 18)),
        .badCommandLength(command: 6, lengthBytes: 20), field: 3),
    Refusal(.head, discarding("vga", [0, 0x1000]), .unknownBlock("vga"), field: 6),
    Refusal(.head, discarding("m0", [0, 0], end: 9), .discardMissingTerminator(9), field: 9),
    Refusal(.head, discarding("m0", [0, 0]), .discardEmpty(block: "m0"), field: 10),
    Refusal(
        .head, discarding("m0", [0, 0x20_0000, 0x1000, 0x20_0000]),
        .discardMisaligned(block: "m0", start: 0x1000, lengthBytes: 0x20_0000), field: 26),
    Refusal(
        .head, discarding("m0", [0, 0x1000]),
        .discardMisaligned(block: "m0", start: 0, lengthBytes: 0x1000), field: 10),
    Refusal(
        .head, discarding("pc.ram", [0x10000, 0x1000]),
        .discardOutsideBlock(block: "pc.ram", start: 0x10000, lengthBytes: 0x1000), field: 14),
    Refusal(
        .head, discarding("pc.ram", [0x1000, ~0xfff]),
        .discardOutsideBlock(block: "pc.ram", start: 0x1000, lengthBytes: ~0xfff), field: 14),
]

extension Refusal {
    static let all =
        headRefusals + sectionRefusals + listRefusals + recordRefusals + commandRefusals
        + discardRefusals
}
