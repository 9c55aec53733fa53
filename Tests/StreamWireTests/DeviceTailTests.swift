import PageModel
import StreamWire
import Testing
import TestSupport

@Suite("the devices behind a precopy, and where they end")
struct DeviceTailTests {
    private let whole = devicesAndEnd + description

    private var parts: DeviceTail.Parts {
        DeviceTail.Parts(
            devices: 0..<devicesAndEnd.count - 1, description: devicesAndEnd.count + 5..<whole.count
        )
    }

    @Test("the decoder hands over everything behind the end of 'ram', as it comes")
    func decoded() throws {
        let stream = completedStream + description
        var decoder = mainChannel()
        let start = stream.count - whole.count
        #expect(
            try steps(Array(stream.prefix(start + 1)), decoder).last?.item
                == .deviceTail(start..<start + 1))
        let items = try steps(stream, decoder)
        #expect(items.last?.item == .deviceTail(start..<stream.count))

        var cursor = 0
        while cursor < start {
            guard case .decoded(.item(_, let consumed)) = decoder.step(stream, from: cursor) else {
                Issue.record("no item at \(cursor)")
                return
            }
            cursor += consumed
        }
        for byte in whole {
            #expect(decoder.step([byte]) == .decoded(.item(.deviceTail(0..<1), consumed: 1)))
            #expect(decoder.endOfInput(unread: 0) == nil)
        }
        #expect(decoder.position == UInt64(stream.count))
    }

    @Test(
        "a tail is whole with its last byte and not before, in whatever pieces it comes",
        arguments: [1, 2, 7, 64, 4096])
    func pieces(longest: Int) throws {
        var tail = DeviceTail(at: 100)
        var fed = 0
        while fed < whole.count {
            #expect(tail.parts == nil)
            #expect(fed == 0 || isTruncated(tail, at: 100 + fed) || fed == devicesAndEnd.count)
            let end = min(whole.count, fed + longest)
            try tail.append(whole.span, fed..<end)
            fed = end
        }
        #expect(tail.parts == parts)
        #expect(try tail.ended() == parts)
        #expect(tail.bytes == whole)
    }

    @Test("a channel that is closed right behind the end needs no description; elsewhere it is cut")
    func closed() throws {
        for length in 1..<whole.count {
            var tail = DeviceTail(at: 7)
            try tail.append(whole.span, 0..<length)
            guard length == devicesAndEnd.count else {
                #expect(isTruncated(tail, at: 7 + length), "\(length)")
                continue
            }
            let ended = try tail.ended()
            #expect(ended == DeviceTail.Parts(devices: 0..<length - 1, description: nil))
            #expect(tail.parts == nil)
        }
    }

    private func isTruncated(_ tail: DeviceTail, at position: Int) -> Bool {
        do throws(WireError) {
            _ = try tail.ended()
            return false
        } catch {
            return error
                == WireError(kind: .truncated(reading: .deviceTail), position: UInt64(position))
        }
    }

    @Test("a device whose state looks like the end does not end the tail, unless a read ends there")
    func lookalike() throws {
        let trap = DeviceSection(
            id: 3, name: "trap", instance: 0, version: 1,
            state: [0x7e, 0, 0, 0, 9, 0] + description + [0x7e, 0, 0, 0, 9, 0, 6, 0, 0, 0])
        var bytes: [UInt8] = []
        device.encode(to: &bytes)
        trap.encode(to: &bytes)
        let devices = bytes.count
        bytes += [0] + description
        var tail = DeviceTail(at: 0)
        try tail.append(bytes.span, 0..<bytes.count)
        let expected = DeviceTail.Parts(
            devices: 0..<devices, description: devices + 6..<bytes.count)
        #expect(tail.parts == expected)

        // Byte by byte it looks whole once, and goes on.
        var slow = DeviceTail(at: 0)
        var ends: [Int] = []
        for index in bytes.indices {
            try slow.append(bytes.span, index..<index + 1)
            if slow.parts != nil { ends.append(index + 1) }
        }
        #expect(ends == [devices - 5 - 10, bytes.count])
        #expect(slow.parts == expected)
    }

    @Test("the true end is found right behind bytes that begin like one", arguments: 0..<12)
    func overlap(offset: Int) throws {
        // Each of these prefixes opens a place that the true one must not be hidden by.
        let almost: [UInt8] = [0x7e, 0, 0, 0, 9, 0, 6, 0, 0, 0x10, 0, UInt8(ascii: "{")]
        let state = Array(almost.prefix(offset)) + almost
        let section = DeviceSection(id: 0x7e, name: "a", instance: 0, version: 0, state: state)
        var bytes: [UInt8] = []
        section.encode(to: &bytes)
        bytes += [0] + description
        var tail = DeviceTail(at: 0)
        try tail.append(bytes.span, 0..<bytes.count)
        #expect(tail.parts?.description?.count == description.count - 5)
    }

    @Test(
        "what is no description of the length that it states makes no tail whole",
        arguments: [
            "", "{", "[]", "}{", "{}}", "{]", "{\"a\": {}", "{\"}", "{\"\\\"}", "{}{}", "{\u{1}}",
            "{\u{e9}}", "{\n}",
        ])
    func malformed(text: String) throws {
        // "{]" closes what it opens, by another bracket: no JSON, and no chance either.
        let body = Array(text.utf8)
        let bytes = devicesAndEnd + [6] + bigEndian(UInt32(body.count)) + body
        var tail = DeviceTail(at: 0)
        try tail.append(bytes.span, 0..<bytes.count)
        #expect((tail.parts != nil) == (text == "{]"))
    }

    @Test(
        "nothing is whole when one of its marks is another byte", arguments: [0, 5, 6, 7, 8, 9, 10])
    func marks(index: Int) throws {
        var bytes = whole
        bytes[devicesAndEnd.count - 6 + index] ^= 0x80
        var tail = DeviceTail(at: 0)
        try tail.append(bytes.span, 0..<bytes.count)
        #expect(tail.parts == nil)
    }

    @Test("a tail has a limit, and stays as it was when it meets it")
    func limit() throws {
        var tail = DeviceTail(at: 5, bytesMax: UInt32(whole.count))
        try tail.append(whole.span, 0..<whole.count)
        do throws(WireError) {
            try tail.append(whole.span, 0..<1)
            Issue.record("more than the limit was taken")
        } catch {
            #expect(error.kind == .deviceTailTooLong(maximum: UInt32(whole.count)))
            #expect(error.position == 5)
        }
        #expect(tail.parts == parts)
    }

    @Test(
        "random bytes around a tail neither trap nor end it early",
        arguments: 0..<50 as Range<UInt64>)
    func noise(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        // Of few values, so that marks meet.
        let values: [UInt8] = [0, 0, 6, 2, 4, 0x7e, 9, UInt8(ascii: "{"), UInt8(ascii: "}"), 0x20]
        var state = (0..<2000).map { _ in values[random.below(values.count)] }
        state.append(0xff)
        var bytes: [UInt8] = []
        DeviceSection(id: 9, name: "noise", instance: 0, version: 1, state: state)
            .encode(to: &bytes)
        let devices = bytes.count
        bytes += [0] + description
        var tail = DeviceTail(at: 0)
        try tail.append(bytes.span, 0..<bytes.count)
        #expect(tail.parts?.devices == 0..<devices)
    }
}
