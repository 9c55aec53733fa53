import StreamWire
import TestSupport
import Testing

@Suite("an outline of opaque device sections")
struct DeviceOutlineTests {
    private func outline(_ bytes: [UInt8]) -> DeviceOutline {
        DeviceOutline(of: bytes.span, in: 0..<bytes.count)
    }

    private func encoded(_ section: DeviceSection) -> [UInt8] {
        var bytes: [UInt8] = []
        section.encode(to: &bytes)
        return bytes
    }

    @Test("each device has its place, its name and its numbers")
    func sections() {
        var bytes: [UInt8] = [0xee]
        bytes += encoded(device) + encoded(rtc)
        bytes.append(0xee)
        let first = encoded(device).count
        let outline = DeviceOutline(of: bytes.span, in: 1..<bytes.count - 1)
        #expect(outline.sections.map(\.id) == [9, 0x1_0000])
        #expect(outline.sections.map(\.name) == ["cpu", "0000:00:01.0/rtc"])
        #expect(outline.sections.map(\.instance) == [1, 0])
        #expect(outline.sections.map(\.version) == [5, 3])
        #expect(
            outline.sections.map(\.range) == [1..<1 + first, 1 + first..<bytes.count - 1])
        #expect(outline.rest.isEmpty)
    }

    @Test("no bytes have no sections and leave nothing over")
    func empty() {
        let outline = outline([])
        #expect(outline.sections.isEmpty)
        #expect(outline.rest == 0..<0)
    }

    @Test("state that holds a footer is not cut there, as no header follows it")
    func footerInState() {
        let tricky = DeviceSection(
            id: 3, name: "tricky", instance: 0, version: 1,
            state: [0x7e, 0, 0, 0, 3, 4, 0, 0, 0, 0, 1, 0x41] + [0x7e, 0, 0, 0, 3, 9])
        let bytes = encoded(tricky) + encoded(device)
        #expect(outline(bytes).sections.map(\.name) == ["tricky", "cpu"])
    }

    @Test("it gives up where a section has no end, and says where")
    func cut() {
        let plain = DeviceSection(id: 2, name: "b", instance: 0, version: 0, state: [1, 2])
        let (first, second) = (encoded(device), encoded(plain))
        let bytes = first + second
        for length in 0..<bytes.count {
            let outline = outline(Array(bytes.prefix(length)))
            #expect(outline.sections.count == (length < first.count ? 0 : 1), "\(length)")
            #expect(
                outline.rest == (length < first.count ? 0 : first.count)..<length, "\(length)")
        }
    }

    @Test(
        "a section in front of what is none is no section either",
        arguments: [[9], [0x7e, 0, 0, 0, 2]])
    func foreign(bytes: [UInt8]) {
        let outline = outline(encoded(device) + bytes)
        #expect(outline.sections.isEmpty)
        #expect(outline.rest == 0..<encoded(device).count + bytes.count)
    }

    @Test("any bytes have an outline whose pieces join", arguments: 0..<200 as Range<UInt64>)
    func noise(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var bytes = encoded(device) + encoded(rtc)
        for _ in 0..<1 + random.below(4) {
            bytes[random.below(bytes.count)] = UInt8(truncatingIfNeeded: random.next())
        }
        let outline = outline(bytes)
        var end = 0
        for section in outline.sections {
            #expect(section.range.lowerBound == end)
            end = section.range.upperBound
        }
        #expect(outline.rest == end..<bytes.count)
    }
}
