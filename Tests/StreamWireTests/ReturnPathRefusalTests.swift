import PageModel
import StreamWire
import Testing

/// A message that must be refused, perhaps behind valid ones.
struct MessageRefusal: Sendable, CustomTestStringConvertible {
    let after: [ReturnPathMessage]
    let bytes: [UInt8]
    let kind: WireError.Kind
    let field: Int

    init(
        _ bytes: [UInt8], _ kind: WireError.Kind, field: Int, after: [ReturnPathMessage] = []
    ) {
        self.after = after
        self.bytes = bytes
        self.kind = kind
        self.field = field
    }

    var testDescription: String { "\(kind)" }

    /// It is named, with the place of its field.
    func expectRefused() {
        let prelude = returnPathBytes(after)
        var decoder = returnPath()
        var cursor = 0
        while cursor < prelude.count {
            guard case .decoded(.item(_, let consumed)) = decoder.step(prelude, from: cursor)
            else { break }
            cursor += consumed
        }
        let position = UInt64(prelude.count + field)
        let expected = WireError(kind: kind, position: position)
        #expect(decoder.step(prelude + bytes, from: cursor) == .refused(expected))
        #expect(expected.description.contains("at byte \(position)"))
        #expect(!expected.description.hasPrefix(" "))
    }
}

private func message(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    bigEndian(type) + bigEndian(UInt16(payload.count)) + payload
}

private func request(_ start: UInt64, _ length: UInt32, _ block: String?) -> [UInt8] {
    let payload = bigEndian(start) + bigEndian(length)
    return block.map { message(3, payload + name($0)) } ?? message(4, payload)
}

private let named: [ReturnPathMessage] = [
    .requestPages(block: huge, start: at(0), lengthBytes: 0x20_0000)
]

private let lengths: [MessageRefusal] = [
    (1, 0), (1, 5), (2, 3), (2, 0xffff), (3, 0), (3, 13), (3, 269), (4, 11), (4, 13),
].map { (type: UInt16, length: UInt16) in
    MessageRefusal(
        bigEndian(type) + bigEndian(length),
        .badMessageLength(message: type, lengthBytes: length), field: 2)
}

private let requests: [MessageRefusal] = [
    MessageRefusal(request(0, 0x1000, nil), .requestBeforeBlockNamed, field: 0),
    MessageRefusal(
        request(0, 0x1000, nil), .requestBeforeBlockNamed, field: 0, after: [.pong(1)]),
    MessageRefusal(request(0, 0x1000, "vga"), .unknownBlock("vga"), field: 16),
    MessageRefusal(
        message(3, Array(repeating: 0, count: 12) + [9, 0x61]),
        .badMessageLength(message: 3, lengthBytes: 14), field: 2),
    MessageRefusal(request(0, 0, "pc.ram"), .requestEmpty(block: "pc.ram"), field: 4),
    MessageRefusal(request(0, 0, nil), .requestEmpty(block: "m0"), field: 4, after: named),
    MessageRefusal(
        request(0x800, 0x1000, "pc.ram"),
        .requestMisaligned(block: "pc.ram", start: 0x800, lengthBytes: 0x1000), field: 4),
    MessageRefusal(
        request(0, 0x1000, nil),
        .requestMisaligned(block: "m0", start: 0, lengthBytes: 0x1000), field: 4, after: named),
    MessageRefusal(
        request(0x40_0000, 0x20_0000, nil),
        .requestOutsideBlock(block: "m0", start: 0x40_0000, lengthBytes: 0x20_0000), field: 4,
        after: named),
    MessageRefusal(
        request(~0xfff, 0x2000, "pc.ram"),
        .requestOutsideBlock(block: "pc.ram", start: ~0xfff, lengthBytes: 0x2000), field: 4),
    MessageRefusal(
        request(0, 0xffff_f000, "pc.ram"),
        .requestOutsideBlock(block: "pc.ram", start: 0, lengthBytes: 0xffff_f000), field: 4),
]

@Suite("refusals of the return path, the package and the preempt channel")
struct ReturnPathRefusalTests {
    static let all =
        lengths + requests
        + [0, 8, 0xffff].map { (type: UInt16) in
            MessageRefusal(message(type, []), .unknownMessage(type), field: 0)
        }
        + [5, 6].map { (type: UInt16) in
            MessageRefusal(message(type, []), .misplaced(.recoveryOnFirstLink), field: 0)
        }
        + [MessageRefusal(message(7, []), .unsupportedMessage(7), field: 0)]
        + [
            MessageRefusal(
                message(2, [0, 0, 0, 1]), .misplaced(.messageAfterShut), field: 0, after: [.shut(0)]
            )
        ]

    @Test("each is named, with the place of its field", arguments: all)
    func refused(_ refusal: MessageRefusal) { refusal.expectRefused() }

    @Test("a refused request does not change the block that was named")
    func refusedRequestForgetsNothing() {
        var decoder = returnPath()
        #expect(decoder.step(request(0, 0x20_0000, "m0")) != .decoded(.needMoreBytes(atLeast: 1)))
        guard case .refused = decoder.step(request(0x10000, 0x1000, "pc.ram")) else {
            Issue.record("a request outside its block was accepted")
            return
        }
        let again = ReturnPathMessage.requestPages(
            block: huge, start: at(0x20_0000), lengthBytes: 0x20_0000)
        #expect(
            decoder.step(request(0x20_0000, 0x20_0000, nil)) == .decoded(.item(again, consumed: 16))
        )
    }

    @Test("a preempt channel has no block list, and its own last block")
    func preempt() {
        var channel = PreemptChannel()
        #expect(
            channel.step(word(0x1000, 4))
                == .refused(
                    WireError(kind: .misplaced(.blockListOnPreemptChannel), position: 0)))
        #expect(
            channel.step(word(0, 0x28))
                == .refused(WireError(kind: .continueWithoutBlock, position: 0)))
    }

    @Test(
        "a record that waits or is refused names no block",
        arguments: [
            word(0, 2) + name("pc.ram"), word(0, 2) + name("pc.ram") + [1],
            word(0, 8) + name("pc.ram") + pattern(0, count: 4095),
            word(0x10000, 8) + name("pc.ram"),
        ])
    func unfinishedRecord(bytes: [UInt8]) {
        var channel = PreemptChannel()
        if case .decoded(.item) = channel.step(bytes) { Issue.record("it was accepted") }
        #expect(
            channel.step(word(0, 0x28) + pattern(0))
                == .refused(WireError(kind: .continueWithoutBlock, position: 0)))
    }

    private static let listen: [UInt8] = [8, 0, 4, 0, 0]
    private static let run: [UInt8] = [8, 0, 5, 0, 0]
    private static func ping(_ value: UInt8) -> [UInt8] { [8, 0, 2, 0, 4, 0, 0, 0, value] }

    @Test(
        "a package is refused by its ends",
        arguments: [
            (listen + run, WireError.Kind.packageTooShort(10), 0),
            (run + ping(3) + run, .packageWithoutListen, 0),
            (listen + ping(3) + listen, .packageWithoutRun, 14),
            (listen + ping(4) + run, .packageWithoutPing, 5),
            (listen + ping(0x42) + run, .packageWithoutPing, 5),
            (listen + [1, 2] + ping(3) + ping(4) + run, .packageWithoutPing, 16),
        ])
    func packages(blob: [UInt8], kind: WireError.Kind, field: Int) {
        let expected = WireError(kind: kind, position: UInt64(1000 + field))
        #expect(throws: expected) { try DevicePackage.parse(blob.span, at: 1000) }
        #expect(!expected.description.hasPrefix(" "))
    }

    @Test("a device is refused at any damage of its frame, and at every cut")
    func devices() {
        var good: [UInt8] = []
        device.encode(to: &good)
        for length in 0..<good.count {
            let cut = WireError(
                kind: .truncated(reading: .deviceSection), position: UInt64(50 + length))
            #expect(throws: cut) { try DeviceSection.decode(good.span, in: 0..<length, at: 50) }
        }
        let damages: [(Int, UInt8, WireError.Kind, Int)] = [
            (0, 1, .unknownSectionType(1), 0), (4, 0, .badSectionID(0), 1),
            (5, 0, .badDeviceName(""), 5), (6, 0xff, .badDeviceName("\u{fffd}pu"), 5),
            (41, 0, .badFooter(0), 41), (45, 1, .footerIDMismatch(1, expected: 9), 42),
        ]
        for (index, value, kind, field) in damages {
            var bad = good
            bad[index] = value
            let expected = WireError(kind: kind, position: UInt64(50 + field))
            #expect(throws: expected) {
                try DeviceSection.decode(bad.span, in: 0..<bad.count, at: 50)
            }
        }
    }
}
