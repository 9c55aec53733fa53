import PageModel
import StreamWire
import TestSupport
import Testing

/// A million damaged streams of a real QEMU, under the law of `DecodingLaw`.
@Suite("damaged bytes of a real QEMU")
struct CapturedMutationTests {
    static let parts = 20

    @Test("500,000 main channels", arguments: 0..<parts)
    func main(seed: Int) throws {
        for (index, name) in Vectors.whole.enumerated() {
            let stream = try CapturedStream(name)
            try damage(
                stream.bytes, stream.decoder, of: stream, runs: 6_250,
                seed: seed + 1000 * index)
        }
    }

    @Test("200,000 return paths", arguments: 0..<parts)
    func returnPaths(seed: Int) throws {
        for (index, name) in Vectors.whole.enumerated() {
            let stream = try CapturedStream(name)
            try damage(
                try Vectors.bytes("\(name)/return.bin"),
                ReturnPathDecoder(blocks: stream.listed, hasAsked: false),
                of: stream, runs: 2_500, seed: seed + 5000 + 1000 * index)
        }
    }

    @Test("100,000 preempt channels", arguments: 0..<parts)
    func preempt(seed: Int) throws {
        let stream = try CapturedStream("postcopy-preempt")
        try damage(
            try Vectors.bytes("postcopy-preempt/preempt.bin"), PreemptChannel(of: stream.blocks),
            of: stream, runs: 5_000, seed: seed + 9000)
    }

    private func damage<Decoder: ChannelDecoder>(
        _ bytes: [UInt8], _ start: Decoder, of stream: CapturedStream, runs: Int, seed: Int
    ) throws {
        let law = DecodingLaw(blocks: stream.blocks)
        let tally = try DamagedItems(of: bytes, start, law: law).run(runs, seed: UInt64(seed))
        #expect(tally.refused > runs / 20 && tally.total == runs)
    }

    @Test("100,000 introductions, and the guest that each of them describes", arguments: 0..<parts)
    func introductions(seed: Int) throws {
        let heads = try Vectors.whole.map { name in
            let stream = try CapturedStream(name)
            let end = try stream.boundaries().first { $0 > 200 } ?? 0
            return Array(stream.bytes.prefix(end + 64))
        }
        var random = SeededRandom(seed: UInt64(seed) + 20_000)
        var described = 0
        for run in 0..<5_000 {
            var bytes = heads[random.below(heads.count)]
            let donor = heads[random.below(heads.count)]
            for _ in 0...random.below(2) {
                Damage.strike(&bytes, at: bytes.indices, joining: donor, with: &random)
            }
            guard let fault = faultOfIntroduction(bytes, &described) else { continue }
            Issue.record("seed \(seed), run \(run): \(fault)")
            return
        }
        #expect(described > 500)
    }

    /// What law the reading of a guest breaks; those that were read are counted.
    private func faultOfIntroduction(_ bytes: [UInt8], _ described: inout Int) -> String? {
        do throws(WireError) {
            switch try StreamIntroduction.decode(bytes.span) {
            case .needMoreBytes(let wanted):
                return wanted > bytes.count && wanted <= bytes.count + 70_000
                    ? nil : "wants \(wanted)"
            case .item(let found, let consumed):
                described += 1
                guard consumed > 0, consumed <= bytes.count else { return "consumed \(consumed)" }
                return faultOfGuest(found, bytes)
            }
        } catch {
            return error.position <= UInt64(bytes.count) ? nil : "position \(error.position)"
        }
    }

    /// The same bytes once more, by a decoder that knows the guest.
    private func faultOfGuest(_ found: StreamIntroduction, _ bytes: [UInt8]) -> String? {
        do throws(GeometryError) {
            var guest: [BlockGeometry] = []
            for block in found.blocks {
                guest.append(
                    try BlockGeometry(
                        name: block.name, lengthBytes: block.usedBytes, hostPage: block.hostPage))
            }
            let decoder = StreamDecoder(blocks: guest.listed, machineType: nil)
            guard case .broken(let fault) = DecodingLaw(blocks: guest).judge(bytes, decoder)
            else { return nil }
            return fault
        } catch {
            return "no memory can be \(error)"
        }
    }

    @Test("60,000 packages: their parts stay inside, and so does an outline", arguments: 0..<parts)
    func packages(seed: Int) throws {
        let sections = try deviceSections()
        let whole = DevicePackage.encode(devices: sections)
        var random = SeededRandom(seed: UInt64(seed) + 30_000)
        for run in 0..<3_000 {
            var blob = whole
            for _ in 0...random.below(2) {
                Damage.strike(&blob, at: blob.indices, joining: sections, with: &random)
            }
            do throws(WireError) {
                let parts = try DevicePackage.parse(blob.span, at: 7)
                let outline = DeviceOutline(of: blob.span, in: parts.devices)
                let ends = outline.sections.map(\.range.upperBound) + [parts.devices.upperBound]
                guard parts.devices.lowerBound == 5, parts.devices.upperBound <= blob.count - 14,
                    ends == ends.sorted()
                else {
                    Issue.record("seed \(seed), run \(run): \(parts), \(ends)")
                    return
                }
            } catch {
                guard error.position >= 7, error.position <= UInt64(blob.count) + 7 else {
                    Issue.record("seed \(seed), run \(run): \(error)")
                    return
                }
            }
        }
    }

    @Test("40,000 tails of devices: whole at their end, or refused there", arguments: 0..<parts)
    func tails(seed: Int) throws {
        let text = Array(#"{"page_size": 4096, "devices": [{"name": "cpu", "fields": [{}]}]}"#.utf8)
        let sections = try deviceSections()
        let whole = sections + [0, 6] + bigEndian(UInt32(text.count)) + text
        var random = SeededRandom(seed: UInt64(seed) + 40_000)
        var wholeCount = 0
        for run in 0..<2_000 {
            var bytes = whole
            for _ in 0...random.below(2) {
                Damage.strike(&bytes, at: bytes.indices, joining: sections, with: &random)
            }
            var tail = DeviceTail(at: 11)
            do throws(WireError) {
                try tail.append(bytes.span, bytes.indices)
                let parts = try tail.ended()
                wholeCount += 1
                guard parts.devices.lowerBound == 0, parts.devices.upperBound <= bytes.count else {
                    Issue.record("seed \(seed), run \(run): \(parts)")
                    return
                }
            } catch {
                guard error.position == UInt64(bytes.count) + 11 else {
                    Issue.record("seed \(seed), run \(run): \(error)")
                    return
                }
            }
        }
        #expect(wholeCount > 100)
    }

    /// The shortest sections of a real guest, some 500 bytes: what is long in a device is opaque.
    private func deviceSections() throws -> [UInt8] {
        let stream = try CapturedStream("postcopy")
        var blob: [UInt8] = []
        for step in try steps(stream.bytes, stream.decoder) {
            if case .packageBytes(let range, _) = step.item { blob += stream.bytes[range] }
        }
        let parts = try DevicePackage.parse(blob.span, at: 0)
        let outline = DeviceOutline(of: blob.span, in: parts.devices)
        let short = outline.sections.sorted { $0.range.count < $1.range.count }.prefix(8)
        return short.flatMap { blob[$0.range] }
    }
}
