import PageModel
import StreamWire
import TestSupport
import Testing

/// What a real QEMU says on the connection that recovers a migration.
@Suite("the recovery of a real QEMU")
struct CapturedRecoveryTests {
    private let stream: CapturedStream

    init() throws { stream = try CapturedStream("postcopy-recover") }

    private var resumedMain: StreamDecoder {
        StreamDecoder(resuming: stream.listed, ramSection: 2, acceptsExtensions: false)
    }

    private var resumedReturnPath: ReturnPathDecoder {
        var decoder = ReturnPathDecoder(blocks: stream.listed)
        decoder.expectsBitmaps()
        return decoder
    }

    @Test("the first link names the section that the resumed one goes on with")
    func section() throws {
        let items = try steps(stream.bytes, stream.decoder)
        #expect(stream.decoder.ramSection == nil)
        #expect(items.last?.before.ramSection == 2)
        #expect(stream.introduction.ramSection == 2)
    }

    @Test("the resumed main channel is decoded whole and encodes to the same bytes")
    func main() throws {
        let bytes = try Vectors.bytes("postcopy-recover/main-resumed.bin")
        let items = try steps(bytes, resumedMain)
        #expect(items.last?.range.upperBound == bytes.count)
        #expect(items.last?.item == .endOfStream)
        let asked = stream.blocks.indices.map { index in
            StreamItem.command(.receivedBitmap(block: BlockIndex(rawValue: index)))
        }
        #expect(items.map(\.item).starts(with: asked + [.command(.postcopyResume)]))
        var written: [UInt8] = []
        for step in items.prefix(asked.count + 1) {
            guard case .command(let command) = step.item else { continue }
            StreamEncoder.appendCommand(command, blocks: stream.blocks, to: &written)
        }
        #expect(bytes.starts(with: written))
        for step in items {
            let count = step.range.count
            expectPrefixesWait(step, in: bytes) { $0 < 280 || $0 + 8 >= count }
        }
    }

    @Test("the resumed return path is decoded whole and encodes to the same bytes")
    func returnPath() throws {
        let bytes = try Vectors.bytes("postcopy-recover/return-resumed.bin")
        let items = try steps(bytes, resumedReturnPath)
        #expect(items.last?.range.upperBound == bytes.count)
        #expect(items.last?.item == .shut(0))
        #expect(items.contains { $0.item == .resumeAcknowledged })
        var encoder = ReturnPathEncoder(blocks: stream.blocks)
        var written: [UInt8] = []
        for step in items {
            switch step.item {
            case .receivedBitmap, .bitmapEnd: break
            case .bitmapBytes(let block, let first, let range):
                #expect(first == 0)
                encoder.appendReceivedBitmap(
                    of: block, received(bytes, range, of: block), to: &written)
            default: encoder.append(step.item, to: &written)
            }
        }
        #expect(written == bytes)
        for step in items {
            // The bits of a bitmap come in pieces.
            if case .bitmapBytes = step.item { continue }
            expectPrefixesWait(step, in: bytes)
        }
    }

    /// The pages that a bitmap names.
    private func received(
        _ bytes: [UInt8], _ range: Range<Int>, of block: BlockIndex
    ) -> ReceivedBitmap {
        let geometry = stream.blocks[block.rawValue]
        let received = ReceivedBitmap(block: geometry)
        for page in 0..<geometry.targetPageCount
        where bytes[range.lowerBound + page / 8] & 1 << (page % 8) != 0 {
            received.insert(HostPageIndex(rawValue: page)..<HostPageIndex(rawValue: page + 1))
        }
        return received
    }

    /// What both channels say of the same memory.
    @Test("the pages that the resumed main channel brings are those that the bitmaps lack")
    func pagesSentOnce() throws {
        let main = try Vectors.bytes("postcopy-recover/main-resumed.bin")
        let back = try Vectors.bytes("postcopy-recover/return-resumed.bin")
        let dirty = stream.blocks.map { DirtyBitmap(block: $0, allDirty: false) }
        for step in try steps(back, resumedReturnPath) {
            guard case .bitmapBytes(let block, let first, let range) = step.item else { continue }
            let pageCount = stream.blocks[block.rawValue].targetPageCount
            for index in 0..<range.count / 8 {
                dirty[block.rawValue].setMissing(
                    receivedWord: ReceivedBitmap.word(
                        in: back.span, at: range.lowerBound + index * 8),
                    at: first + index, pageCount: pageCount)
            }
        }
        for step in try steps(main, resumedMain) {
            switch step.item {
            case .page(let block, let offset, _), .zeroPage(let block, let offset):
                let page = stream.blocks[block.rawValue].hostPage(containing: offset)
                #expect(dirty[block.rawValue].claim(page), "\(block) \(offset) came twice")
            default: break
            }
        }
        #expect(dirty.allSatisfy { $0.dirtyCount == 0 })
    }

    @Test("decoders of a first link refuse both at their first bytes")
    func firstLink() throws {
        let main = try Vectors.bytes("postcopy-recover/main-resumed.bin")
        var decoder = stream.decoder
        // RECV_BITMAP, where the magic of a head is due.
        let error = WireError(kind: .badMagic(0x0800_0a00), position: 0)
        #expect(decoder.step(main) == .refused(error))
        let back = try Vectors.bytes("postcopy-recover/return-resumed.bin")
        var path = ReturnPathDecoder(blocks: stream.listed)
        let misplaced = WireError(kind: .misplaced(.recoveryOnFirstLink), position: 0)
        #expect(path.step(back) == .refused(misplaced))
    }
}
