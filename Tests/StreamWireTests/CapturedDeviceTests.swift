import Foundation
import PageModel
import StreamWire
import TestSupport
import Testing

/// Streams of a real QEMU: their devices, and where they end.
@Suite("the devices of a real QEMU")
struct CapturedDeviceTests {
    private func items(of stream: CapturedStream) throws -> [Step<StreamDecoder>] {
        try steps(stream.bytes, stream.decoder)
    }

    @Test("a precopy is whole with its last byte, and its outline is what it describes")
    func precopy() throws {
        let captured = try CapturedStream("precopy")
        let stream = captured.bytes
        let last = try #require(try items(of: captured).last)
        guard case .deviceTail(let range) = last.item else {
            Issue.record("the stream ends in \(last.item)")
            return
        }
        #expect(range.upperBound == stream.count)
        var tail = DeviceTail(at: UInt64(range.lowerBound))
        var wholeAt: [Int] = []
        for index in range {
            try tail.append(stream.span, index..<index + 1)
            if tail.parts != nil { wholeAt.append(index + 1) }
        }
        #expect(wholeAt == [stream.count])
        let parts = try tail.ended()
        let description = try #require(parts.description)
        let described = try JSONDecoder().decode(
            Description.self, from: Data(tail.bytes[description]))
        let outline = DeviceOutline(of: tail.bytes.span, in: parts.devices)
        #expect(outline.rest.isEmpty)
        #expect(outline.sections.map(\.name) == described.devices.map(\.name))
        #expect(outline.sections.map { Int($0.instance) } == described.devices.map(\.instance_id))
        #expect(outline.sections.count > 20)
    }

    /// The part of QEMU's description that names the devices.
    private struct Description: Decodable {
        struct Device: Decodable {
            let name: String
            let instance_id: Int
        }
        let devices: [Device]
    }

    @Test("a precopy that is cut in its devices is refused where it is cut", arguments: 0..<40)
    func cuts(index: Int) throws {
        let captured = try CapturedStream("precopy")
        let stream = captured.bytes
        let last = try #require(try items(of: captured).last)
        let range = last.range.lowerBound..<stream.count
        let end = range.lowerBound + 1 + index * (range.count - 2) / 39
        var tail = DeviceTail(at: UInt64(range.lowerBound))
        try tail.append(stream.span, range.lowerBound..<end)
        do throws(WireError) {
            _ = try tail.ended()
            Issue.record("a cut at \(end) was not seen")
        } catch {
            #expect(
                error == WireError(kind: .truncated(reading: .deviceTail), position: UInt64(end)))
        }
    }

    @Test(
        "the package holds the same devices, and an outline leaves nothing over",
        arguments: ["postcopy", "postcopy-preempt", "postcopy-hugetlb", "postcopy-recover"])
    func package(vector: String) throws {
        let captured = try CapturedStream(vector)
        let stream = captured.bytes
        var blob: [UInt8] = []
        for step in try items(of: captured) {
            if case .packageBytes(let range, _) = step.item { blob += stream[range] }
        }
        let parts = try DevicePackage.parse(blob.span, at: 0)
        let outline = DeviceOutline(of: blob.span, in: parts.devices)
        #expect(outline.rest.isEmpty)
        #expect(outline.sections.first?.name == "timer")
        #expect(outline.sections.first?.id == 0)
        #expect(outline.sections.last?.name == "globalstate")
        #expect(Set(outline.sections.map(\.id)).count == outline.sections.count)
    }
}
