import PageModel
import StreamWire
import Testing

/// The blocks of a guest that shares `m0` and resizes `/rom@etc/x`, of which it uses one page.
let sharingBlocks: [ListedBlock] = [
    ListedBlock(blocks[0], guestPhysicalAddress: 0x1_0000_0000),
    ListedBlock(blocks[1], isIgnored: true, guestPhysicalAddress: 0x4000_0000),
    ListedBlock(blocks[2], usedBytes: 0x1000, isResizable: true),
]

func sharingChannel() -> StreamDecoder {
    StreamDecoder(blocks: sharingBlocks, machineType: "pc", ignoresShared: true)
}

/// The blocks when `/rom@etc/x` has another length.
func sharing(romBytes: UInt64) -> [ListedBlock] {
    let rom = ListedBlock(blocks[2], usedBytes: romBytes, isResizable: true)
    return sharingBlocks.dropLast() + [rom]
}

/// A postcopy of that guest, in which the resizable block grows, and then shrinks alone.
let sharingStream: [UInt8] = {
    var writer = StreamWriter()
    StreamEncoder.appendHead(machineType: "pc", ignoresShared: true, to: &writer.bytes)
    writer.command(.openReturnPath)
    writer.command(.postcopyAdvise(pageSizeSummary: 0x1000, targetPageBytes: 0x1000))
    StreamEncoder.appendSectionStart(id: 2, to: &writer.bytes)
    writer.list(sharingBlocks)
    writer.end()
    writer.resume()
    writer.page(rom, 0)
    writer.list(sharing(romBytes: 0x2000))
    writer.zero(rom, 0x1000)
    writer.end()
    writer.resume(last: true)
    writer.list([sharing(romBytes: 0x1000)[2]])
    writer.end()
    writer.command(.discard(discard(rom, [(0, 0x1000)])))
    writer.endOfStream()
    return writer.bytes
}()

extension StreamWriter {
    mutating func list(_ blocks: [ListedBlock]) {
        StreamEncoder.appendBlockList(blocks, ignoresShared: true, to: &bytes)
    }
}

@Suite("block lists that come again, and shared memory that is listed and not sent")
struct BlockListTests {
    @Test("the head names x-ignore-shared as QEMU does")
    func head() {
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "pc", ignoresShared: true, to: &bytes)
        let expected: [UInt8] =
            [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 7, 0, 0, 0, 2] + Array("pc".utf8)
            + [5, 26] + Array("configuration/capabilities".utf8) + [0, 0, 0, 1, 0, 0, 0, 1, 15]
            + Array("x-ignore-shared".utf8)
        #expect(bytes == expected)
    }

    @Test("every entry carries the guest's address, behind the page size")
    func entries() {
        var bytes: [UInt8] = []
        StreamEncoder.appendBlockList(sharingBlocks, ignoresShared: true, to: &bytes)
        let expected: [UInt8] =
            bigEndian(UInt64(0x41_1000 | 4))
            + name("pc.ram") + bigEndian(UInt64(0x10000)) + bigEndian(UInt64(0x1_0000_0000))
            + name("m0") + bigEndian(UInt64(0x40_0000)) + bigEndian(UInt64(0x20_0000))
            + bigEndian(UInt64(0x4000_0000))
            + name("/rom@etc/x") + bigEndian(UInt64(0x1000)) + bigEndian(UInt64(0))
        #expect(bytes == expected)
    }

    @Test("a list comes again in any part, whole or not; its lengths hold from there on")
    func again() throws {
        let steps = try steps(sharingStream, sharingChannel())
        let lists = steps.indices.filter { index in
            if case .blockList = steps[index].item { return true }
            return false
        }
        #expect(lists.map { steps[$0].item } == Array(repeating: .blockList(count: 3), count: 3))
        // The decoder as it stood in front of the item behind each list.
        #expect(lists.map { steps[$0 + 1].before.usedBytes(of: rom) } == [0x1000, 0x2000, 0x1000])
        #expect(steps.contains { $0.item == .zeroPage(block: rom, offset: at(0x1000)) })
        #expect(steps.last?.item == .endOfStream)
    }

    @Test("every proper prefix asks for more and moves nothing")
    func prefixes() throws {
        for step in try steps(sharingStream, sharingChannel()) {
            expectPrefixesWait(step, in: sharingStream)
        }
    }

    /// Bytes behind what comes before them in `sharingStream`, and how they are refused.
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        var blocks = sharingBlocks
        var ignoresShared = true
        let bytes: [UInt8]
        let kind: WireError.Kind
        /// Where the field at fault begins, counted from the first byte.
        let field: Int
    }

    private static func beginning(
        _ blocks: [ListedBlock]?, _ more: [UInt8] = [], ignoresShared: Bool = true
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "pc", ignoresShared: ignoresShared, to: &bytes)
        guard let blocks else { return bytes + more }
        StreamEncoder.appendSectionStart(id: 2, to: &bytes)
        StreamEncoder.appendBlockList(blocks, ignoresShared: ignoresShared, to: &bytes)
        return bytes + more
    }

    private static let headBytes = beginning(nil).count
    private static let plainHeadBytes = beginning(nil, ignoresShared: false).count
    private static let listed = beginning(sharingBlocks)
    private static func discarding(_ block: ListedBlock, _ range: [UInt64]) -> [UInt8] {
        let payload = [0] + name(block.geometry.name) + [0] + range.flatMap { bigEndian($0) }
        return [8, 0, 6] + bigEndian(UInt16(payload.count)) + payload
    }
    private static let sectionEnd: [UInt8] = word(0, 0x10) + [0x7e, 0, 0, 0, 2]

    static let capabilities: [Case] = [
        Case(
            testDescription: "on at the source, off here", ignoresShared: false,
            bytes: beginning(nil, [0]), kind: .ignoreSharedDiffers(ours: false),
            field: headBytes - 16),
        Case(
            testDescription: "off at the source, on here",
            bytes: beginning(nil, [0], ignoresShared: false),
            kind: .ignoreSharedDiffers(ours: true), field: plainHeadBytes),
        Case(
            testDescription: "a capability of no name, off at the source",
            bytes: beginning(
                nil, [5] + name("configuration/capabilities") + [0, 0, 0, 1, 0, 0, 0, 0, 0],
                ignoresShared: false),
            kind: .ignoreSharedDiffers(ours: true), field: plainHeadBytes + 36),
        Case(
            testDescription: "four billion capabilities",
            bytes: beginning(
                nil,
                [5] + name("configuration/capabilities") + [0, 0, 0, 1, 255, 255, 255, 255]
                    + name("x-ignore-shared") + name("x-ignore-shared"), ignoresShared: false),
            kind: .repeatedCapability("x-ignore-shared"), field: plainHeadBytes + 52),
        Case(
            testDescription: "a capability beside it",
            bytes: beginning(
                nil,
                [5] + name("configuration/capabilities") + [0, 0, 0, 1, 0, 0, 0, 2]
                    + name("x-ignore-shared") + name("mapped-ram"), ignoresShared: false),
            kind: .unsupportedCapability("mapped-ram"), field: plainHeadBytes + 52),
    ]

    static let entriesAtFault: [Case] = [
        Case(
            testDescription: "another address", bytes: beginning([ListedBlock(blocks[0])]),
            kind: .blockAddressMismatch(block: "pc.ram", ours: 0x1_0000_0000, theirs: 0),
            field: headBytes + 17 + 8 + 15),
        Case(
            testDescription: "an ignored block of another length",
            bytes: beginning(makeBlocks([("m0", 0x20_0000, .size2MiB)]).listed),
            kind: .blockLengthMismatch(block: "m0", ours: 0x40_0000, theirs: 0x20_0000),
            field: headBytes + 17 + 8 + 3),
        Case(
            testDescription: "more than a resizable block can have",
            bytes: beginning(makeBlocks([("/rom@etc/x", 0x3000, .target)]).listed),
            kind: .blockTooLong(block: "/rom@etc/x", maximum: 0x2000, theirs: 0x3000),
            field: headBytes + 17 + 8 + 11),
        Case(
            testDescription: "a resizable block of nothing",
            bytes: beginning(nil, sectionStart + word(0x1000, 4) + name("/rom@etc/x"))
                + bigEndian(UInt64(0)),
            kind: .blockNotWholePages(block: "/rom@etc/x", lengthBytes: 0, pageBytes: 0x1000),
            field: headBytes + 17 + 8 + 11),
        Case(
            testDescription: "a part of a page",
            bytes: beginning(nil, sectionStart + word(0x1000, 4) + name("/rom@etc/x"))
                + bigEndian(UInt64(0x1001)),
            kind: .blockNotWholePages(block: "/rom@etc/x", lengthBytes: 0x1001, pageBytes: 0x1000),
            field: headBytes + 17 + 8 + 11),
        Case(
            testDescription: "a fixed block that is resized later",
            bytes: listed + word(0x8000, 4) + name("pc.ram") + bigEndian(UInt64(0x8000)),
            kind: .blockLengthMismatch(block: "pc.ram", ours: 0x10000, theirs: 0x8000),
            field: listed.count + 8 + 7),
        Case(
            testDescription: "a block twice in a later list",
            bytes: listed + word(0x2000, 4) + name("/rom@etc/x") + bigEndian(UInt64(0x1000))
                + bigEndian(UInt64(0)) + name("/rom@etc/x"),
            kind: .repeatedBlock("/rom@etc/x"), field: listed.count + 8 + 27),
        Case(
            testDescription: "a total that all our blocks do not make up",
            bytes: listed + word(~0xfff, 4) + name("/rom@etc/x") + bigEndian(UInt64(0x1000))
                + bigEndian(UInt64(0)) + name("third"),
            kind: .unknownBlock("third"), field: listed.count + 8 + 27),
    ]

    private static let sectionStart: [UInt8] =
        [1, 0, 0, 0, 2] + name("ram") + [0, 0, 0, 0, 0, 0, 0, 4]

    static let ranges: [Case] = [
        Case(
            testDescription: "a page of an ignored block",
            bytes: listed + word(0, 8) + name("m0"), kind: .pageOfIgnoredBlock(block: "m0"),
            field: listed.count),
        Case(
            testDescription: "a page beyond the used length",
            bytes: listed + word(0x1000, 2) + name("/rom@etc/x"),
            kind: .offsetOutsideBlock(block: "/rom@etc/x", offset: 0x1000, lengthBytes: 0x1000),
            field: listed.count),
        Case(
            testDescription: "a discard in an ignored block",
            bytes: listed + sectionEnd + discarding(sharingBlocks[1], [0, 0x20_0000]),
            kind: .discardOfIgnoredBlock(block: "m0"), field: listed.count + 13 + 10),
        Case(
            testDescription: "a discard beyond the used length",
            bytes: listed + sectionEnd + discarding(sharingBlocks[2], [0, 0x2000]),
            kind: .discardOutsideBlock(block: "/rom@etc/x", start: 0, lengthBytes: 0x2000),
            field: listed.count + 13 + 18),
    ]

    static let pageSizes: [Case] = [
        Case(
            testDescription: "huge pages where ordinary ones are due, in the middle of a list",
            blocks: ordinary, ignoresShared: false,
            bytes: beginning([hugeA, ordinary[1]], ignoresShared: false),
            kind: .blockPageSizeMismatch(block: "a", ours: 0x1000, theirs: 0x20_0000),
            field: plainHeadBytes + 17 + 8 + 10),
        Case(
            testDescription: "huge pages where ordinary ones are due, at the end of a list",
            blocks: ordinary, ignoresShared: false,
            bytes: beginning([ordinary[1], hugeA], ignoresShared: false),
            kind: .blockPageSizeMismatch(block: "a", ours: 0x1000, theirs: 0x20_0000),
            field: plainHeadBytes + 17 + 8 + 20),
        Case(
            testDescription: "ordinary pages where huge ones are due, in the middle of a list",
            blocks: [hugeA, ordinary[1]], ignoresShared: false,
            bytes: beginning(ordinary, sectionEnd, ignoresShared: false),
            kind: .blockPageSizeMismatch(block: "a", ours: 0x20_0000, theirs: 0x1000),
            field: plainHeadBytes + 17 + 8 + 10),
        Case(
            testDescription: "ordinary pages where huge ones are due, at the end of a list",
            blocks: [ordinary[1], hugeA], ignoresShared: false,
            bytes: beginning(ordinary.reversed(), sectionEnd, ignoresShared: false),
            kind: .blockPageSizeMismatch(block: "a", ours: 0x20_0000, theirs: 0x1000),
            field: plainHeadBytes + 17 + 8 + 20),
    ]

    private static let hugeA = ListedBlock(makeBlocks([("a", 0x20_0000, .size2MiB)])[0])
    private static let ordinary: [ListedBlock] = makeBlocks([
        ("a", 0x20_0000, .target), ("b", 0x20_0000, .target),
    ]).listed

    @Test(
        "each is refused at its field",
        arguments: capabilities + entriesAtFault + ranges + pageSizes)
    func refused(_ refusal: Case) {
        var decoder = StreamDecoder(
            blocks: refusal.blocks, machineType: nil, ignoresShared: refusal.ignoresShared)
        var cursor = 0
        while case .decoded(.item(_, let consumed)) = decoder.step(refusal.bytes, from: cursor) {
            cursor += consumed
        }
        let error = WireError(kind: refusal.kind, position: UInt64(refusal.field))
        #expect(decoder.step(refusal.bytes, from: cursor) == .refused(error))
        #expect(!error.description.hasPrefix(" ") && !error.description.contains("\n"))
    }

    @Test("what both sides have to change is said")
    func words() {
        func text(_ kind: WireError.Kind) -> String {
            WireError(kind: kind, position: 1).description
        }
        #expect(
            text(.ignoreSharedDiffers(ours: false)).hasPrefix(
                "the source has x-ignore-shared on, this side has it off"))
        #expect(
            text(.ignoreSharedDiffers(ours: true)).hasPrefix(
                "the source has x-ignore-shared off, this side has it on"))
        let address = text(.blockAddressMismatch(block: "m0", ours: 0x1000, theirs: 0x2000))
        for part in ["'m0'", "0x1000", "0x2000"] { #expect(address.contains(part)) }
        let length = text(.blockLengthMismatch(block: "a", ours: 1, theirs: 2))
        for part in ["'a'", "has 2 bytes", "expected 1", "resizable"] {
            #expect(length.contains(part))
        }
    }

    @Test("requests are held against the used length, and against a new one")
    func requests() throws {
        func request(_ block: UInt8, _ start: UInt8, _ name: [UInt8]) -> [UInt8] {
            [0, 3, 0, 13 + UInt8(name.count - 1)] + [0, 0, 0, 0, 0, 0, start, 0]
                + bigEndian(UInt32(sharingBlocks[Int(block)].geometry.hostPage.bytes)) + name
        }
        let beyond = request(2, 0x10, name("/rom@etc/x"))
        var decoder = ReturnPathDecoder(blocks: sharingBlocks, hasAsked: false)
        let outside = WireError.Kind.requestOutsideBlock(
            block: "/rom@etc/x", start: 0x1000, lengthBytes: 0x1000)
        #expect(decoder.step(beyond) == .refused(WireError(kind: outside, position: 4)))
        let ignored = WireError.Kind.requestOfIgnoredBlock(block: "m0")
        #expect(
            decoder.step(request(1, 0, name("m0")))
                == .refused(WireError(kind: ignored, position: 4)))
        decoder.resize(sharing(romBytes: 0x2000))
        let message = ReturnPathMessage.requestPages(
            block: rom, start: at(0x1000), lengthBytes: 0x1000)
        #expect(decoder.step(beyond) == .decoded(.item(message, consumed: beyond.count)))
    }

    @Test("a preempt channel knows the used length as well")
    func preempt() throws {
        var decoder = RAMRecordDecoder(blocks: sharingBlocks)
        let record = word(0x1000, 2) + name("/rom@etc/x") + [0]
        #expect(throws: WireError.self) {
            try decoder.next(in: record.span, from: 0, position: 0)
        }
        decoder = RAMRecordDecoder(blocks: sharing(romBytes: 0x2000))
        let item = try decoder.next(in: record.span, from: 0, position: 0)
        #expect(
            item == .item(.zeroPage(block: rom, offset: at(0x1000)), consumed: record.count))
    }
}
