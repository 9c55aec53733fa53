import PageModel
import StreamWire
import Testing

private let list: [UInt8] = [0x50, 0x43, 0, 6, 0, 1, 0, 0, 0, 1]
private let offering = offer(1, [.refusalReason])

func offer(
    _ version: UInt16, _ extensions: Extensions, _ token: MigrationToken? = nil
) -> ReturnPathMessage {
    .extensions(ExtensionOffer(version: version, extensions: extensions, token: token))
}

private func list(_ payload: [UInt8]) -> [UInt8] {
    [0x50, 0x43] + bigEndian(UInt16(payload.count)) + payload
}

private func reason(_ payload: [UInt8]) -> [UInt8] {
    [0x50, 0x44] + bigEndian(UInt16(payload.count)) + payload
}

/// A later version's list: as long as one may be, with bits and bytes that nobody here knows.
let laterListStream =
    list([0, 9, 0xff, 0xff, 0xff, 0xff] + Array(repeating: 0xaa, count: 58)) + reason([0x61])

private let laterToken = MigrationToken(high: 0xaaaa_aaaa_aaaa_aaaa, low: 0xaaaa_aaaa_aaaa_aaaa)

@Suite("extensions")
struct ExtensionTests {
    @Test("the question is an ordinary PING with a value that QEMU never sends")
    func question() {
        var bytes: [UInt8] = []
        StreamEncoder.appendCommand(.ping(Extensions.question), blocks: [], to: &bytes)
        #expect(bytes == [8, 0, 2, 0, 4, 0x50, 0x43, 0, 2])
        #expect(PingValue(rawValue: Extensions.question) == nil)
        #expect(PingValue.allCases.allSatisfy { Extensions.version(askedBy: $0.rawValue) == nil })
        #expect(Extensions.version(askedBy: Extensions.question) == Extensions.version)
    }

    @Test(
        "the high half asks, whatever the version",
        arguments: [
            (0x5043_0000, 0), (0x5043_0001, 1), (0x5043_0002, 2), (0x5043_ffff, 0xffff),
            (0x5042_ffff, nil), (0x5044_0000, nil), (0x5043, nil), (0, nil), (UInt32.max, nil),
        ] as [(UInt32, UInt16?)])
    func asking(value: UInt32, version: UInt16?) {
        #expect(Extensions.version(askedBy: value) == version)
        #expect(Extensions.offersRecovery(askedBy: value) == ((version ?? 0) >= 2))
    }

    @Test("a source of version 1 is offered what it knows")
    func versions() {
        #expect(Extensions.ours(forVersion: 0) == [.refusalReason])
        #expect(Extensions.ours(forVersion: 1) == [.refusalReason])
        for version: UInt16 in [2, 3, .max] {
            #expect(Extensions.ours(forVersion: version) == [.refusalReason, .recovery])
        }
        let old = ExtensionOffer(version: 2, extensions: .ours(forVersion: 1), token: token)
        #expect(old.token == nil)
    }

    @Test("the bytes of the list and of a reason")
    func bytes() throws {
        #expect(returnPathBytes([offering]) == list)
        let text = "G\u{e4}ste"
        let both = list + reason(Array(text.utf8)) + [0, 1, 0, 4, 0, 0, 0, 1]
        #expect(returnPathBytes([offering, .refusalReason(text), .shut(1)]) == both)
        #expect(
            try steps(extendedStream, returnPath()).map(\.item) == extendedMessages)
    }

    @Test("a later version's longer list is taken, with its unknown bits")
    func later() throws {
        let items = try steps(laterListStream, returnPath()).map(\.item)
        #expect(
            items == [
                offer(9, Extensions(rawValue: .max), laterToken), .refusalReason("a"),
            ])
    }

    @Test(
        "what was not offered, is empty or comes twice is not written",
        arguments: [
            ([.refusalReason("no")], []),
            ([offer(1, []), .refusalReason("no")], [offer(1, [])]),
            ([offering, .refusalReason("")], [offering]),
            ([offering, offering], [offering]),
            (
                [offering, .refusalReason("a"), .refusalReason("b")],
                [offering, .refusalReason("a")]
            ),
            ([.shut(1), offering, .refusalReason("a")], [.shut(1)]),
        ] as [([ReturnPathMessage], [ReturnPathMessage])])
    func leftOut(messages: [ReturnPathMessage], written: [ReturnPathMessage]) throws {
        #expect(try steps(returnPathBytes(messages), returnPath()).map(\.item) == written)
    }

    @Test(
        "a long reason is cut to 400 bytes of whole characters",
        arguments: ["a", "\u{e4}", "\u{20ac}", "\u{1f427}", "e\u{301}"])
    func long(character: String) throws {
        for lead in 0..<4 {
            let text =
                String(repeating: "x", count: lead) + String(repeating: character, count: 500)
            let bytes = returnPathBytes([offering, .refusalReason(text)])
            let items = try steps(bytes, returnPath()).map(\.item)
            guard case .refusalReason(let cut) = try #require(items.last) else {
                Issue.record("no reason")
                continue
            }
            #expect((397...400).contains(cut.utf8.count))
            #expect(text.utf8.starts(with: cut.utf8))
        }
    }

    @Test("a reason of any characters up to 400 bytes comes as it was sent")
    func longest() throws {
        let text = String(repeating: "\u{0}\u{1f427}", count: 80)
        let bytes = returnPathBytes([offering, .refusalReason(text)])
        #expect(bytes.count == list.count + 4 + 400)
        #expect(try steps(bytes, returnPath()).map(\.item) == [offering, .refusalReason(text)])
    }

    static let refusals: [MessageRefusal] =
        [6, 21].map { (length: UInt16) in
            MessageRefusal(
                list([0, 2, 0, 0, 0, 2] + Array(repeating: 0x77, count: Int(length) - 6)),
                .badMessageLength(message: 0x5043, lengthBytes: length), field: 2)
        }
        + [0, 5, 65, 0xffff].map { (length: UInt16) in
            MessageRefusal(
                [0x50, 0x43] + bigEndian(length),
                .badMessageLength(message: 0x5043, lengthBytes: length), field: 2)
        }
        + [0, 401, 0xffff].map { (length: UInt16) in
            MessageRefusal(
                [0x50, 0x44] + bigEndian(length),
                .badMessageLength(message: 0x5044, lengthBytes: length), field: 2,
                after: [offering])
        }
        + [
            MessageRefusal(list, .misplaced(.secondExtensions), field: 0, after: [offering]),
            MessageRefusal(list, .misplaced(.messageAfterShut), field: 0, after: [.shut(1)]),
            MessageRefusal(reason([0x61]), .misplaced(.reasonNotOffered), field: 0),
            MessageRefusal(
                reason([0x61]), .misplaced(.reasonNotOffered), field: 0,
                after: [offer(1, [])]),
            MessageRefusal(
                reason([0x61]), .misplaced(.reasonNotOffered), field: 0,
                after: [offer(2, Extensions(rawValue: ~1), token)]),
            MessageRefusal(
                reason([0x62]), .misplaced(.secondReason), field: 0,
                after: [offering, .refusalReason("a")]),
            MessageRefusal(
                reason([0x61]), .misplaced(.messageAfterShut), field: 0,
                after: [offering, .shut(1)]),
            MessageRefusal([0x50, 0x42, 0, 0], .unknownMessage(0x5042), field: 0),
            MessageRefusal([0x50, 0x47, 0, 0], .unknownMessage(0x5047), field: 0),
        ]
        + [[0xff], [0x61, 0xc3], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80]].map {
            MessageRefusal(reason($0), .reasonNotText, field: 4, after: [offering])
        }

    @Test("each is refused with the place of its field", arguments: refusals)
    func refused(_ refusal: MessageRefusal) { refusal.expectRefused() }

    @Test("a list that nobody asked for is refused, and taken once it was asked for")
    func unasked() {
        var decoder = ReturnPathDecoder(blocks: blocks.listed, hasAsked: false)
        let refusal = WireError(kind: .misplaced(.extensionsUnasked), position: 0)
        #expect(decoder.step(list) == .refused(refusal))
        decoder.noteAsked()
        #expect(decoder.step(list) == .decoded(.item(offering, consumed: list.count)))
    }
}
