import PageModel
import StreamWire
import Testing

private func message(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    bigEndian(type) + bigEndian(UInt16(payload.count)) + payload
}

private func command(_ number: UInt16, _ payload: [UInt8]) -> [UInt8] {
    [8] + bigEndian(number) + bigEndian(UInt16(payload.count)) + payload
}

private func bitmap(_ block: String, _ lengthBytes: UInt64, _ rest: [UInt8] = []) -> [UInt8] {
    message(5, name(block)) + bigEndian(lengthBytes) + rest
}

private let endMark = bigEndian(UInt64(0x0123_4567_89ab_cdef))
private let full = [UInt8](repeating: 0xff, count: 8)
private let hello: [UInt8] = {
    var bytes: [UInt8] = []
    greeting.append(to: &bytes)
    return Array(bytes.dropFirst(5))
}()

/// Bytes at which a channel of a recovery must be refused, perhaps behind valid items.
struct RecoveryRefusal: Sendable, CustomTestStringConvertible {
    let bytes: [UInt8]
    let kind: WireError.Kind
    let field: Int

    init(_ bytes: [UInt8], _ kind: WireError.Kind, field: Int) {
        self.bytes = bytes
        self.kind = kind
        self.field = field
    }

    var testDescription: String { "\(kind)" }

    func expectRefused(by start: some ChannelDecoder) {
        var decoder = start
        var cursor = 0
        while case .decoded(.item(_, let consumed)) = decoder.step(bytes, from: cursor) {
            cursor += consumed
        }
        let expected = WireError(kind: kind, position: UInt64(field))
        #expect(decoder.step(bytes, from: cursor) == .refused(expected))
        #expect(decoder.position == UInt64(cursor))
        #expect(!expected.description.hasPrefix(" ") && !expected.description.contains("\n"))
    }
}

@Suite("refusals of a recovery")
struct RecoveryRefusalTests {
    static let bitmaps: [RecoveryRefusal] = [
        RecoveryRefusal(bitmap("vga", 8), .unknownBlock("vga"), field: 4),
        RecoveryRefusal(bitmap("shared", 8), .bitmapOfIgnoredBlock(block: "shared"), field: 4),
        RecoveryRefusal(
            message(5, [9, 0x61]), .badMessageLength(message: 5, lengthBytes: 2), field: 2),
        RecoveryRefusal(
            bitmap("word", 8, full + bigEndian(UInt64(1))), .bitmapMissingEndMark(1), field: 25),
        RecoveryRefusal(
            bitmap("/rom@etc/x", 8, [2, 0, 0, 0, 0, 0, 0, 0]),
            .bitmapBeyondBlock(block: "/rom@etc/x"), field: 23),
        RecoveryRefusal(
            bitmap("/rom@etc/x", 8, [1, 0, 0, 0, 0, 0, 0, 0x80]),
            .bitmapBeyondBlock(block: "/rom@etc/x"), field: 23),
        // 323 pages in six words: three bits of the last.
        RecoveryRefusal(
            bitmap("pc.ram", 48, full + full + full + full + full + [8, 0, 0, 0, 0, 0, 0, 0]),
            .bitmapBeyondBlock(block: "pc.ram"), field: 19 + 40),
        // Whole and good, but for what follows it.
        RecoveryRefusal(
            bitmap("word", 8, full + endMark) + [0, 8, 0, 0], .unknownMessage(8), field: 33),
    ]

    static let lengths: [RecoveryRefusal] = [
        ("/rom@etc/x", 0, 8), ("/rom@etc/x", 16, 8), ("word", 7, 8), ("word", 16, 8),
        ("pc.ram", 40, 48), ("pc.ram", 41, 48), ("pc.ram", .max, 48), ("m0", 8, 128),
        ("m0", 1 << 63, 128),
    ].map { (block: String, theirs: UInt64, ours: UInt64) in
        RecoveryRefusal(
            bitmap(block, theirs),
            .bitmapLengthMismatch(block: block, ours: ours, theirs: theirs),
            field: 5 + block.utf8.count)
    }

    static let messageLengths: [RecoveryRefusal] = [
        (5, 0), (5, 1), (5, 257), (5, 0xffff), (6, 0), (6, 3), (6, 5), (0x5045, 0), (0x5045, 5),
        (0x5046, 1), (0x5046, 0xffff),
    ].map { (type: UInt16, length: UInt16) in
        RecoveryRefusal(
            bigEndian(type) + bigEndian(length),
            .badMessageLength(message: type, lengthBytes: length), field: 2)
    }

    static let answers: [RecoveryRefusal] =
        [0, 2, .max].map { (value: UInt32) in
            RecoveryRefusal(
                message(6, bigEndian(value)), .badResumeAcknowledgement(value), field: 4)
        }
        + [6, 7, 0x100, .max].map { (value: UInt32) in
            RecoveryRefusal(
                message(0x5045, bigEndian(value)), .badRecoveryAnswer(value), field: 4)
        } + [
            RecoveryRefusal(
                message(0x5043, [0, 2, 0, 0, 0, 0]), .misplaced(.extensionsUnasked), field: 0)
        ]

    @Test(
        "each of the return path, with the place of its field",
        arguments: bitmaps + lengths + messageLengths + answers)
    func returnPath(_ refusal: RecoveryRefusal) {
        refusal.expectRefused(by: resumedReturnPath())
    }

    static let main: [RecoveryRefusal] = [
        RecoveryRefusal(command(10, name("vga")), .unknownBlock("vga"), field: 5),
        RecoveryRefusal(
            command(10, name("shared")), .bitmapOfIgnoredBlock(block: "shared"), field: 5),
        RecoveryRefusal(
            command(10, name("word") + [0]), .badCommandLength(command: 10, lengthBytes: 6),
            field: 3),
        RecoveryRefusal(
            command(10, [0]), .badCommandLength(command: 10, lengthBytes: 1), field: 3),
        RecoveryRefusal(
            [8, 0, 10, 1, 1], .badCommandLength(command: 10, lengthBytes: 257), field: 3),
        RecoveryRefusal(
            command(9, [0]), .badCommandLength(command: 9, lengthBytes: 1), field: 3),
        RecoveryRefusal(
            command(0x5043, hello + [0]),
            .badCommandLength(command: 0x5043, lengthBytes: 25), field: 3),
        RecoveryRefusal(
            command(0x5043, Array(hello.prefix(16)) + bigEndian(UInt32(2)) + [0, 0, 0, 0]),
            .unknownChannel(2), field: 21),
        RecoveryRefusal(
            command(0x5044, [0]), .badCommandLength(command: 0x5044, lengthBytes: 1), field: 3),
        RecoveryRefusal(command(0x5042, []), .unknownCommand(0x5042), field: 1),
        RecoveryRefusal(command(0x5045, []), .unknownCommand(0x5045), field: 1),
        RecoveryRefusal([2, 0, 0, 0, 2], .unboundSectionID(2), field: 1),
        RecoveryRefusal(
            [1, 0, 0, 0, 7] + name("ram"), .misplaced(.secondSectionStart), field: 0),
        RecoveryRefusal([4, 0, 0, 0, 9], .misplaced(.devicesAfterPackage), field: 0),
        RecoveryRefusal(
            [2, 0, 0, 0, 7] + word(0x1000, 4), .misplaced(.blockListOnResumedLink), field: 5),
        RecoveryRefusal(
            [2, 0, 0, 0, 7] + word(0, 0x28), .continueWithoutBlock, field: 5),
        RecoveryRefusal(
            [2, 0, 0, 0, 7] + bigEndian(UInt64(0x5043_4245_4154_0000)),
            .misplaced(.heartbeatNotAgreed), field: 5),
        RecoveryRefusal(
            [0x51, 0x45, 0x56, 0x4d], .unknownSectionType(0x51), field: 0),
    ]

    @Test("each of the main channel, with the place of its field", arguments: main)
    func mainChannel(_ refusal: RecoveryRefusal) {
        refusal.expectRefused(by: resumedChannel())
    }

    @Test("what a stock QEMU never sends is refused where nobody agreed on it")
    func notAgreed() {
        RecoveryRefusal(command(0x5043, hello), .misplaced(.helloNotAgreed), field: 1)
            .expectRefused(by: resumedChannel(acceptsExtensions: false))
        RecoveryRefusal(command(0x5044, []), .misplaced(.heartbeatNotAgreed), field: 1)
            .expectRefused(by: resumedChannel(acceptsExtensions: false))
        for offered in [nil, [], [.refusalReason]] as [Extensions?] {
            RecoveryRefusal(
                message(0x5045, [0, 0, 0, 0]), .misplaced(.recoveryAnswerNotOffered), field: 0
            ).expectRefused(by: resumedReturnPath(offered: offered))
            RecoveryRefusal(message(0x5046, []), .misplaced(.heartbeatNotAgreed), field: 0)
                .expectRefused(by: resumedReturnPath(offered: offered))
        }
    }

    @Test("a first link brings no part of a recovery", arguments: [5, 6] as [UInt16])
    func firstLink(type: UInt16) {
        let decoder = ReturnPathDecoder(
            blocks: recoveredBlocks, offered: .ours(forVersion: 2))
        RecoveryRefusal(
            message(type, [0, 0, 0, 1]), .misplaced(.recoveryOnFirstLink), field: 0
        ).expectRefused(by: decoder)
    }

    @Test("a link whose extensions were agreed on before brings no second list")
    func secondList() {
        var decoder = ReturnPathDecoder(
            blocks: recoveredBlocks, hasAsked: true, offered: .ours(forVersion: 2))
        decoder.expectsBitmaps()
        RecoveryRefusal(
            message(0x5043, [0, 2, 0, 0, 0, 0]), .misplaced(.secondExtensions), field: 0
        ).expectRefused(by: decoder)
    }

    @Test("a return path that ends inside a bitmap is cut there")
    func cut() {
        var decoder = resumedReturnPath()
        let bytes = bitmap("word", 8, full)
        var cursor = 0
        while case .decoded(.item(_, let consumed)) = decoder.step(bytes, from: cursor) {
            cursor += consumed
            let error = decoder.endOfInput(unread: 3)
            #expect(error?.kind == .truncated(reading: .receivedBitmap))
            #expect(error?.position == UInt64(cursor + 3))
        }
        #expect(cursor == bytes.count)
    }
}

/// What a stock QEMU must never be sent: our own numbers, on any of the three channels.
@Suite("private bytes")
struct PrivateBytesTests {
    @Test(
        "without an offer a return path is what QEMU knows",
        arguments: [nil, [], [.refusalReason]] as [Extensions?])
    func returnPath(offered: Extensions?) {
        var encoder = ReturnPathEncoder(blocks: blocks, offered: offered)
        var bytes: [UInt8] = []
        encoder.append(.heartbeat, to: &bytes)
        for answer in RecoveryAnswer.allCases {
            encoder.append(.recoveryAnswer(answer), to: &bytes)
        }
        #expect(bytes.isEmpty)
        if offered?.contains(.refusalReason) != true {
            encoder.append(.refusalReason("no"), to: &bytes)
            #expect(bytes.isEmpty)
        }
        encoder.append(.resumeAcknowledged, to: &bytes)
        encoder.append(.pong(1), to: &bytes)
        #expect(bytes == [0, 6, 0, 4, 0, 0, 0, 1, 0, 2, 0, 4, 0, 0, 0, 1])
    }

    @Test("nothing of a recovery follows SHUT")
    func lastWord() {
        var encoder = ReturnPathEncoder(blocks: blocks, offered: .ours(forVersion: 2))
        var bytes: [UInt8] = []
        encoder.append(.shut(0), to: &bytes)
        let whole = bytes
        encoder.append(.heartbeat, to: &bytes)
        encoder.append(.recoveryAnswer(.completed), to: &bytes)
        encoder.append(.resumeAcknowledged, to: &bytes)
        encoder.appendReceivedBitmap(of: ram, ReceivedBitmap(block: blocks[0]), to: &bytes)
        #expect(bytes == whole)
    }

    /// The numbers of `enum qemu_vm_cmd` and `enum mig_rp_message_type` end below 0x100.
    @Test("all that is private has a number that QEMU does not use")
    func numbers() {
        var commands: [UInt8] = []
        for command: Command in [.hello(greeting), .heartbeat] {
            commands.removeAll()
            StreamEncoder.appendCommand(command, blocks: blocks, to: &commands)
            #expect(commands[0] == 8 && commands[1] == 0x50)
        }
        var encoder = ReturnPathEncoder(blocks: blocks)
        for message in [
            offer(2, .ours(forVersion: 2), token), .refusalReason("no"), .heartbeat,
            .recoveryAnswer(.busy),
        ] {
            var bytes: [UInt8] = []
            encoder.append(message, to: &bytes)
            #expect(bytes.first == 0x50)
        }
        // No block is as long as the offset that the word of a heartbeat would be.
        #expect(0x5043_4245_4154_0000 > BlockGeometry.lengthBytesMax)
    }

    @Test("a source that asked in version 1 hears nothing of a recovery")
    func oldSource() {
        var encoder = ReturnPathEncoder(blocks: blocks)
        var bytes: [UInt8] = []
        let offer = ExtensionOffer(
            version: Extensions.version, extensions: .ours(forVersion: 1), token: token)
        encoder.append(.extensions(offer), to: &bytes)
        encoder.append(.heartbeat, to: &bytes)
        #expect(bytes == [0x50, 0x43, 0, 6, 0, 2, 0, 0, 0, 1])
    }
}
