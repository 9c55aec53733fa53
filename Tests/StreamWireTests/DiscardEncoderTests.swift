import PageModel
import StreamWire
import Testing
import TestSupport

/// What an encoder made of some blocks.
struct EncodedDiscards {
    var pieces: [[UInt8]] = []
    var totals = DiscardTotals()

    var bytes: [UInt8] { pieces.flatMap { $0 } }
}

func discards(of blocks: [DirtyBitmap]) -> EncodedDiscards {
    var encoded = EncodedDiscards()
    var encoder = DiscardEncoder()
    let sink = { (bytes: Span<UInt8>) in encoded.pieces.append(bytes.indices.map { bytes[$0] }) }
    for dirty in blocks { encoder.encode(dirty, to: sink) }
    encoder.finish(to: sink)
    encoded.totals = encoder.totals
    return encoded
}

@Suite("discards from bitmaps")
struct DiscardEncoderTests {
    /// The target pages of each command, as the decoder reads them.
    private func commands(
        _ bytes: [UInt8], _ blocks: [BlockGeometry]
    ) throws -> [(block: Int, runs: [Range<Int>])] {
        var stream: [UInt8] = []
        StreamEncoder.appendHead(machineType: "any", to: &stream)
        stream += bytes
        StreamEncoder.appendEndOfStream(to: &stream)
        let items = try steps(stream, StreamDecoder(blocks: blocks.listed, machineType: nil))
        #expect(items.last?.range.upperBound == stream.count)
        return items.compactMap { step in
            guard case .command(.discard(let discard)) = step.item else { return nil }
            let runs = discard.ranges.map { range in
                let first = Int(range.start.rawValue >> 12)
                return first..<first + Int(range.lengthBytes >> 12)
            }
            return (discard.block.rawValue, runs)
        }
    }

    private func bitmap(_ name: String, _ page: PageSize, _ pages: [Bool]) throws -> DirtyBitmap {
        let block = try BlockGeometry(
            name: name, lengthBytes: UInt64(pages.count) << 12, hostPage: page)
        let dirty = DirtyBitmap(block: block, allDirty: false)
        for run in pageRuns(of: pages) { dirty.insert(run) }
        return dirty
    }

    /// Every second page is dirty: as many ranges as there can be.
    private func striped(_ name: String, ranges: Int) throws -> DirtyBitmap {
        try bitmap(name, .target, (0..<max(1, 2 * ranges)).map { $0 < 2 * ranges && $0 % 2 == 1 })
    }

    @Test("two blocks, byte by byte, and nothing for the clean one between them")
    func bytes() throws {
        let dirty = [
            try bitmap("b", .target, (0..<16).map { $0 == 1 || $0 == 2 || $0 == 15 }),
            try bitmap("clean", .target, Array(repeating: false, count: 4)),
            try bitmap("hugeblock", .size2MiB, (0..<1024).map { $0 >= 512 }),
        ]
        var expected: [UInt8] = [8, 0, 6, 0, 36, 0, 1, 0x62, 0]
        expected += bigEndian(UInt64(0x1000)) + bigEndian(UInt64(0x2000))
        expected += bigEndian(UInt64(0xf000)) + bigEndian(UInt64(0x1000))
        expected += [8, 0, 6, 0, 28, 0] + name("hugeblock") + [0]
        expected += bigEndian(UInt64(0x20_0000)) + bigEndian(UInt64(0x20_0000))
        let encoded = discards(of: dirty)
        #expect(encoded.bytes == expected)
        var totals = DiscardTotals()
        totals.ranges = 3
        totals.commands = 2
        totals.bytes = expected.count
        totals.targetPages = 515
        #expect(encoded.totals == totals)
        #expect(discards(of: [dirty[1]]).pieces == [])
    }

    @Test(
        "twelve ranges fill a command, and a block ends one",
        arguments: [0, 1, 11, 12, 13, 24, 37, 300, 2000])
    func split(count: Int) throws {
        let dirty = [try striped("first", ranges: count), try striped("second", ranges: 5)]
        let found = try commands(discards(of: dirty).bytes, dirty.map(\.block))
        let full = Array(repeating: 12, count: count / 12) + (count % 12 > 0 ? [count % 12] : [])
        #expect(found.map(\.runs.count) == full + [5])
        #expect(found.map(\.block) == Array(repeating: 0, count: full.count) + [1])
        let runs = found.dropLast().flatMap(\.runs)
        #expect(runs == (0..<count).map { 2 * $0 + 1..<2 * $0 + 2 })
    }

    @Test("the buffer goes to the sink when it is full, at the end of a command, and stays bounded")
    func pieces() throws {
        let longName = String(repeating: "n", count: 255)
        let dirty = [try striped("a", ranges: 9000), try striped(longName, ranges: 9001)]
        let encoded = discards(of: dirty)
        #expect(encoded.pieces.count > 5)
        for piece in encoded.pieces.dropLast() {
            #expect(piece.count >= DiscardEncoder.flushBytes)
            #expect(piece.count < DiscardEncoder.flushBytes + 5 + 258 + 12 * 16)
            // A command begins with its type and number.
            #expect(piece.starts(with: [8, 0, 6]))
        }
        #expect(encoded.bytes.count == encoded.totals.bytes)
        let found = try commands(encoded.bytes, dirty.map(\.block))
        #expect(found.map(\.runs.count).reduce(0, +) == 18_001)
        #expect(encoded.totals.ranges == 18_001)
        #expect(encoded.totals.commands == found.count)
        #expect(encoded.totals.targetPages == 18_001)
    }

    @Test("what the sink throws comes through, with its type, and ends the encoding")
    func sinkThrows() throws {
        struct LinkLost: Error, Equatable { var piece: Int }
        let dirty = try striped("a", ranges: 30_000)
        var encoder = DiscardEncoder()
        var pieces = 0
        var caught: LinkLost?
        do throws(LinkLost) {
            try encoder.encode(dirty) { _ throws(LinkLost) in
                pieces += 1
                if pieces == 3 { throw LinkLost(piece: pieces) }
            }
        } catch {
            caught = error
        }
        #expect(caught == LinkLost(piece: 3))
        #expect(pieces == 3)
        // What the sink refused is gone; the encoder goes on with the next block.
        var rest: [UInt8] = []
        encoder.encode(try striped("b", ranges: 1)) { _ in }
        encoder.finish { bytes in rest += bytes.indices.map { bytes[$0] } }
        #expect(rest.starts(with: [8, 0, 6, 0, 20, 0, 1, 0x62, 0]))
        #expect(rest.count == 25)
    }

    struct Guests: Sendable {
        let page: PageSize
        let hostPages: Int
        let count: Int
    }

    static let guests = [
        Guests(page: .target, hostPages: 700, count: 200),
        Guests(page: PageSize(bytes: 0x8000) ?? .target, hostPages: 90, count: 200),
        Guests(page: .size2MiB, hostPages: 4, count: 60),
        Guests(page: .size1GiB, hostPages: 2, count: 3),
    ]

    @Test("what is decoded are the pages owed by the rules, as runs", arguments: guests)
    func canonical(guests: Guests) throws {
        for seed in 0..<UInt64(guests.count) {
            var random = SeededRandom(seed: seed &* 1_000_003 &+ 7)
            let perHostPage = guests.page.targetPages
            let length = (1 + random.below(guests.hostPages)) * perHostPage
            let patterns: [PagePattern] =
                length > 100_000
                ? [.none, .runs, .hostPages, .nearlyHostPages] : PagePattern.allCases
            let pages = (0..<2).map { _ in
                patterns[random.below(patterns.count)].pages(
                    length, perHostPage: perHostPage, using: &random)
            }
            let dirty = try bitmap("pc.ram", guests.page, pages[0])
            dirty.canonicalize(sent: PageBitmap(pages[1]))
            let expected = pageRuns(
                of: owedPages(dirty: pages[0], sent: pages[1], perHostPage: perHostPage))
            // The decoder refuses what is not whole host pages.
            let found = try commands(discards(of: [dirty]).bytes, [dirty.block])
            try #require(found.flatMap(\.runs) == expected, "seed \(seed)")
        }
    }
}
