import Foundation
import PageModel
import StreamWire
import TestSupport
import Testing

/// Migrations of a real QEMU, decoded whole: what stands in them is what their manifest says, and what
/// was decoded encodes to the same bytes.
@Suite("whole migrations of a real QEMU")
struct CapturedVectorTests {
    /// The part of the manifest that says what was captured.
    struct Manifest: Decodable {
        struct Block: Decodable {
            let name: String
            let lengthBytes: UInt64
            let pageBytes: UInt64
            let sha256: String?
        }
        let name: String
        let machineType: String
        let blocks: [Block]

        static func of(_ vector: String) throws -> Manifest {
            let all = try JSONDecoder().decode(
                [Manifest].self, from: Data(try Vectors.bytes("manifest.json")))
            return try #require(all.first { $0.name == vector })
        }
    }

    @Test(
        "the guest that a stream introduces is the manifest's",
        arguments: Vectors.whole + ["postcopy-recover"])
    func introduction(vector: String) throws {
        let manifest = try Manifest.of(vector)
        let stream = try CapturedStream(vector)
        #expect(stream.introduction.machineType == manifest.machineType)
        #expect(stream.blocks.map(\.name) == manifest.blocks.map(\.name))
        #expect(stream.blocks.map(\.lengthBytes) == manifest.blocks.map(\.lengthBytes))
        #expect(stream.blocks.map(\.hostPage.bytes) == manifest.blocks.map(\.pageBytes))
        let pages = manifest.blocks.reduce(0) { $0 | $1.pageBytes }
        #expect(stream.introduction.pageSizeSummary == (vector == "precopy" ? nil : pages))
    }

    /// How much of each kind a main channel has.
    struct Figures: Equatable, Sendable, CustomTestStringConvertible {
        var vector: String
        var pages = 0
        var zeroPages = 0
        /// Sections of `ram` behind its start.
        var parts = 0
        var discards = 0
        var discardRanges = 0
        var discardBytes: UInt64 = 0
        var pings: [UInt32] = []
        var packageBytes = 0
        var tailBytes = 0

        var testDescription: String { vector }
    }

    @Test(
        "the items of a main channel, counted",
        arguments: [
            Figures(
                vector: "postcopy", pages: 40, zeroPages: 575, parts: 9, discards: 1,
                discardRanges: 2, discardBytes: 40_960, pings: [1, 2, 4], packageBytes: 12_912),
            Figures(
                vector: "postcopy-preempt", pages: 35, zeroPages: 575, parts: 7, discards: 1,
                discardRanges: 2, discardBytes: 40_960, pings: [1, 2, 4], packageBytes: 12_912),
            Figures(
                vector: "postcopy-hugetlb", pages: 35, zeroPages: 1589, parts: 8, discards: 7,
                discardRanges: 7, discardBytes: 2_433_024, pings: [1, 2, 4],
                packageBytes: 12_912),
            Figures(
                vector: "precopy", pages: 21, zeroPages: 575, parts: 2, pings: [1],
                tailBytes: 112_208),
        ])
    func figures(expected: Figures) throws {
        let stream = try CapturedStream(expected.vector)
        let items = try steps(stream.bytes, stream.decoder)
        var found = Figures(vector: expected.vector)
        for step in items { found.count(step.item) }
        #expect(found == expected)
        let last = try #require(items.last)
        #expect(last.range.upperBound == stream.bytes.count)
        var decoder = last.before
        _ = decoder.step(stream.bytes, from: last.range.lowerBound)
        #expect(decoder.endOfInput(unread: 0) == nil)
    }

    @Test("the memory that the pages make is the memory that QEMU had", arguments: Vectors.whole)
    func memory(vector: String) throws {
        let stream = try CapturedStream(vector)
        var memory = stream.blocks.map { [UInt8](repeating: 0, count: Int($0.lengthBytes)) }
        func place(_ block: BlockIndex, _ offset: RAMOffset, _ content: ArraySlice<UInt8>) {
            let start = Int(offset.rawValue)
            memory[block.rawValue].replaceSubrange(start..<start + 4096, with: content)
        }
        for step in try steps(stream.bytes, stream.decoder) {
            switch step.item {
            case .page(let block, let offset, let payload):
                place(block, offset, stream.bytes[payload])
            case .zeroPage(let block, let offset):
                place(block, offset, [UInt8](repeating: 0, count: 4096)[...])
            default: break
            }
        }
        if Vectors.exists("\(vector)/preempt.bin") {
            let urgent = try Vectors.bytes("\(vector)/preempt.bin")
            for step in try steps(urgent, PreemptChannel(of: stream.blocks)) {
                guard case .page(let block, let offset, let payload) = step.item else { continue }
                place(block, offset, urgent[payload])
            }
        }
        let known = try Manifest.of(vector).blocks.enumerated().filter { $1.sha256 != nil }
        #expect(known.count >= 3)
        let sums = try sums(of: known.map { memory[$0.offset] })
        #expect(sums == known.map { $0.element.sha256 })
    }

    /// The SHA-256 of each, by the system's own program.
    private func sums(of contents: [[UInt8]]) throws -> [String] {
        let folder = FileManager.default.temporaryDirectory
            .appendingPathComponent("postcopy-vectors-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = try contents.enumerated().map { index, bytes in
            let file = folder.appendingPathComponent("\(index)")
            try Data(bytes).write(to: file)
            return file.path
        }
        let (process, output) = (Process(), Pipe())
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["sha256sum"] + files
        process.standardOutput = output
        try process.run()
        let text = String(
            decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return text.split(separator: "\n").map { String($0.prefix(64)) }
    }

    @Test("a main channel encodes to the same bytes", arguments: Vectors.whole)
    func mainRoundTrip(vector: String) throws {
        let stream = try CapturedStream(vector)
        let items = try steps(stream.bytes, stream.decoder)
        let ids = items.compactMap { step -> UInt32? in
            if case .sectionStart(let id) = step.item { id } else { nil }
        }
        #expect(ids == [stream.introduction.ramSection])
        var records = RAMRecordEncoder(blocks: stream.blocks)
        var written: [UInt8] = []
        for step in items {
            encode(step, of: stream, with: &records, to: &written)
            guard written.count == step.range.upperBound,
                written[step.range] == stream.bytes[step.range]
            else {
                // The list is written whole at its first word.
                if case .memorySize = step.item { continue }
                if case .blockListed = step.item { continue }
                Issue.record("\(step.item) at \(step.range) is written otherwise")
                return
            }
        }
        #expect(written == stream.bytes)
    }

    private func encode(
        _ step: Step<StreamDecoder>, of stream: CapturedStream,
        with records: inout RAMRecordEncoder, to output: inout [UInt8]
    ) {
        let namesBlock = stream.bytes.namesBlock(at: step.range.lowerBound)
        switch step.item {
        case .head(let machine):
            StreamEncoder.appendHead(
                machineType: machine, configuration: stream.introduction.configuration,
                to: &output)
        case .sectionStart(let id): StreamEncoder.appendSectionStart(id: id, to: &output)
        case .memorySize: StreamEncoder.appendBlockList(stream.listed, to: &output)
        case .blockListed, .blockList: break
        case .sectionResumed(let id, let last):
            StreamEncoder.appendSectionResumed(id: id, last: last, to: &output)
        case .page(let block, let offset, let payload):
            if namesBlock { records.forgetBlock() }
            records.appendPageHeader(block: block, offset: offset, to: &output)
            output += stream.bytes[payload]
        case .zeroPage(let block, let offset):
            if namesBlock { records.forgetBlock() }
            records.appendZeroPage(block: block, offset: offset, to: &output)
        case .sectionEnd(let id): StreamEncoder.appendSectionEnd(id: id, to: &output)
        case .command(let command):
            StreamEncoder.appendCommand(command, blocks: stream.blocks, to: &output)
        case .packageBytes(let range, _), .deviceTail(let range), .trailing(let range):
            output += stream.bytes[range]
        case .endOfStream: StreamEncoder.appendEndOfStream(to: &output)
        }
    }

    @Test("a cut at any of these places is seen there", arguments: Vectors.whole)
    func prefixes(vector: String) throws {
        let stream = try CapturedStream(vector)
        let items = try steps(stream.bytes, stream.decoder)
        for step in items {
            switch step.item {
            case .packageBytes, .deviceTail: continue
            default: break
            }
            let count = step.range.count
            // Whole where it is fields, and near both ends of a page.
            expectPrefixesWait(step, in: stream.bytes) { $0 < 280 || $0 + 8 >= count }
            var decoder = step.before
            for length in Set([0, 1, 8, count - 1].map { min($0, count - 1) }) {
                let cut = Array(stream.bytes[step.range.lowerBound...].prefix(length))
                _ = decoder.step(cut)
                let error = try #require(decoder.endOfInput(unread: length))
                #expect(error.position == UInt64(step.range.lowerBound + length))
                guard case .truncated = error.kind else {
                    Issue.record("\(error)")
                    return
                }
            }
        }
        let end = try #require(items.first { $0.item == .blockList(count: stream.blocks.count) })
        for length in 0..<end.range.upperBound {
            let prefix = Array(stream.bytes.prefix(length))
            guard case .needMoreBytes = try StreamIntroduction.decode(prefix.span) else {
                Issue.record("\(length) bytes introduce a guest")
                return
            }
        }
    }
}

extension [UInt8] {
    /// Whether the record that begins there names its block: QEMU does so anew when the guest has
    /// moved, and when it goes from one channel to the other.
    func namesBlock(at start: Int) -> Bool {
        let flags = start + 7
        return flags < count && self[flags] & 0x20 == 0
    }
}

extension CapturedVectorTests.Figures {
    fileprivate mutating func count(_ item: StreamItem) {
        switch item {
        case .page: pages += 1
        case .zeroPage: zeroPages += 1
        case .sectionResumed: parts += 1
        case .command(.ping(let value)): pings.append(value)
        case .command(.discard(let discard)):
            discards += 1
            discardRanges += discard.ranges.count
            discardBytes += discard.ranges.reduce(0) { $0 + $1.lengthBytes }
        case .packageBytes(let range, _): packageBytes += range.count
        case .deviceTail(let range): tailBytes += range.count
        default: break
        }
    }
}
