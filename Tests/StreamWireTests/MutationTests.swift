import PageModel
import StreamWire
import Testing
import TestSupport

/// A million damaged streams: each step goes forward by a whole item inside its bounds, asks for a
/// bounded number of bytes, or throws in place.
///
/// A run damages one item and decodes from there with the decoder as it stood, so that runs are
/// short although the streams are whole.
@Suite("damaged bytes")
struct MutationTests {
    static let parts = 20

    @Test("450,000 main channels", arguments: 0..<parts)
    func main(seed: Int) throws {
        try damage(postcopyStream, mainChannel(), runs: 12_500, seed: seed)
        try damage(precopyStream, mainChannel(), runs: 5_000, seed: seed + 1000)
        try damage(sharingStream, sharingChannel(), runs: 5_000, seed: seed + 4000)
    }

    @Test("300,000 return paths", arguments: 0..<parts)
    func returnPaths(seed: Int) throws {
        try damage(returnPathStream, returnPath(), runs: 10_000, seed: seed + 2000)
        try damage(extendedStream, returnPath(), runs: 5_000, seed: seed + 5000)
    }

    @Test("250,000 preempt channels", arguments: 0..<parts)
    func preempt(seed: Int) throws {
        try damage(preemptStream, PreemptChannel(), runs: 12_500, seed: seed + 3000)
    }

    private func damage<Decoder: ChannelDecoder>(
        _ stream: [UInt8], _ start: Decoder, runs: Int, seed: Int
    ) throws {
        let steps = try steps(stream, start)
        // Each item with what follows it, so that a shifted boundary meets plausible bytes.
        let windows = steps.map { step in
            Array(stream[step.range.lowerBound...].prefix(step.range.count + 48))
        }
        var random = SeededRandom(seed: UInt64(seed))
        for run in 0..<runs {
            let index = random.below(steps.count)
            var bytes = windows[index]
            for _ in 0...random.below(2) { mutate(&bytes, with: &random) }
            if let fault = faultOfDecoding(bytes, steps[index].before) {
                Issue.record("seed \(seed), run \(run), item \(index): \(fault)")
                return
            }
        }
    }

    /// What law a decoder breaks on these bytes, or `nil`.
    private func faultOfDecoding<Decoder: ChannelDecoder>(
        _ bytes: [UInt8], _ start: Decoder
    ) -> String? {
        var decoder = start
        var cursor = 0
        while true {
            let before = decoder.position
            let available = bytes.count - cursor
            switch decoder.step(bytes, from: cursor) {
            case .decoded(.needMoreBytes(let wanted)):
                guard wanted > available, wanted <= 70_000 else { return "wants \(wanted)" }
                return decoder.position == before ? nil : "moved while it waits"
            case .refused(let error):
                guard error.position >= before, error.position - before <= UInt64(available) else {
                    return "position \(error.position)"
                }
                return decoder.position == before ? nil : "moved while it throws"
            case .decoded(.item(let item, let consumed)):
                guard consumed > 0, consumed <= available,
                    decoder.position == before + UInt64(consumed)
                else { return "consumed \(consumed)" }
                if let fault = fault(of: item, at: cursor..<cursor + consumed) { return fault }
                cursor += consumed
            }
        }
    }
}

/// Flips, inserts, deletes, cuts, or writes the numbers that parsers fear.
private func mutate(_ bytes: inout [UInt8], with random: inout SeededRandom) {
    guard !bytes.isEmpty else { return }
    // Fields stand in front; a page's bytes mean nothing.
    let near = random.below(8) == 0 ? bytes.count : min(bytes.count, 64)
    let place = random.below(near)
    switch random.below(6) {
    case 0: bytes[place] ^= 1 << UInt8(random.below(8))
    case 1: bytes[place] = UInt8(truncatingIfNeeded: random.next())
    case 2: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
    case 3: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(4)))
    case 4: bytes.removeSubrange(place...)
    default:
        let width = min(1 << random.below(4), bytes.count - place)
        let extreme = random.below(4)
        for index in 0..<width {
            let isFirst = index == 0
            let isLast = index == width - 1
            bytes[place + index] =
                switch extreme {
                case 0: 0
                case 1: isLast ? 1 : 0
                case 2: isFirst ? 0x7f : 0xff
                default: 0xff
                }
        }
    }
}

/// What is out of bounds in an item that stood at `place`, or `nil`.
private func fault(of item: some Equatable & Sendable, at place: Range<Int>) -> String? {
    switch item {
    case let item as StreamItem: faultOfItem(item, at: place)
    case .page(let block, let offset, let payload) as RAMRecord:
        faultOfPage(block, offset, payload, at: place)
    case .zeroPage(let block, let offset) as RAMRecord: faultOfPage(block, offset, nil, at: place)
    case .requestPages(let block, let start, let length) as ReturnPathMessage:
        faultOfRange(block, start, length)
    default: nil
    }
}

private func faultOfItem(_ item: StreamItem, at place: Range<Int>) -> String? {
    switch item {
    case .page(let block, let offset, let payload):
        return faultOfPage(block, offset, payload, at: place)
    case .zeroPage(let block, let offset): return faultOfPage(block, offset, nil, at: place)
    case .packageBytes(let range, _), .trailing(let range):
        return range == place ? nil : "bytes at \(range)"
    case .blockListed(let block):
        return blocks.indices.contains(block.rawValue) ? nil : "block \(block)"
    case .blockList(let count): return (1...blocks.count).contains(count) ? nil : "\(count) blocks"
    case .command(.discard(let discard)):
        if discard.ranges.isEmpty { return "an empty discard" }
        for range in discard.ranges {
            let fault = faultOfRange(discard.block, range.start, range.lengthBytes)
            if let fault { return fault }
        }
        return nil
    default: return nil
    }
}

private func faultOfPage(
    _ block: BlockIndex, _ offset: RAMOffset, _ payload: Range<Int>?, at place: Range<Int>
) -> String? {
    guard blocks.indices.contains(block.rawValue) else { return "block \(block)" }
    let geometry = blocks[block.rawValue]
    guard offset.rawValue % 4096 == 0, geometry.contains(start: offset, lengthBytes: 4096) else {
        return "offset \(offset)"
    }
    guard let payload else { return nil }
    guard payload.count == 4096, payload.lowerBound > place.lowerBound,
        payload.upperBound == place.upperBound
    else { return "payload \(payload)" }
    return nil
}

private func faultOfRange(_ block: BlockIndex, _ start: RAMOffset, _ length: UInt64) -> String? {
    guard blocks.indices.contains(block.rawValue) else { return "block \(block)" }
    let geometry = blocks[block.rawValue]
    guard length > 0, geometry.contains(start: start, lengthBytes: length),
        geometry.hostPage.divides(start.rawValue), geometry.hostPage.divides(length)
    else { return "\(length) bytes at \(start)" }
    return nil
}

@Suite("damaged packages")
struct PackageMutationTests {
    @Test("100,000 packages: parts and devices stay inside, or it throws")
    func packages() {
        var random = SeededRandom(seed: 5)
        for run in 0..<100_000 {
            var blob = package
            for _ in 0...random.below(2) { mutate(&blob, with: &random) }
            do throws(WireError) {
                let parts = try DevicePackage.parse(blob.span, at: 7)
                guard parts.devices.lowerBound == 5, parts.devices.upperBound <= blob.count - 14
                else {
                    Issue.record("run \(run): devices at \(parts.devices)")
                    return
                }
                var rest = parts.devices
                while !rest.isEmpty {
                    let found = try DeviceSection.decode(blob.span, in: rest, at: 7)
                    guard found.next > rest.lowerBound, found.next <= rest.upperBound else {
                        Issue.record("run \(run): a device ends at \(found.next)")
                        return
                    }
                    rest = found.next..<rest.upperBound
                }
            } catch {
                guard error.position >= 7, error.position <= UInt64(blob.count) + 7 else {
                    Issue.record("run \(run): \(error)")
                    return
                }
            }
        }
    }
}
