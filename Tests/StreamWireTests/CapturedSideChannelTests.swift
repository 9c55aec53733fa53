import StreamWire
import TestSupport
import Testing

/// The channels beside the main one, and what a recovery adds to them, as a real QEMU sent them.
@Suite("return paths and preempt channels of a real QEMU")
struct CapturedSideChannelTests {
    @Test("a return path is decoded whole and encodes to the same bytes", arguments: Vectors.whole)
    func returnPath(vector: String) throws {
        let stream = try CapturedStream(vector)
        let bytes = try Vectors.bytes("\(vector)/return.bin")
        let items = try steps(bytes, ReturnPathDecoder(blocks: stream.listed, hasAsked: false))
        #expect(items.last?.range.upperBound == bytes.count)
        let pongs = items.compactMap { step -> UInt32? in
            if case .pong(let value) = step.item { value } else { nil }
        }
        // The source sends 4 behind the package, and the destination loads the devices meanwhile.
        #expect(vector == "precopy" ? pongs == [1] : Set(pongs) == [1, 2, 3, 4])
        let requests = items.filter { if case .requestPages = $0.item { true } else { false } }
        #expect(requests.isEmpty == (vector == "precopy"))
        #expect(items.last?.item == .shut(0))
        var encoder = ReturnPathEncoder(blocks: stream.blocks)
        var written: [UInt8] = []
        for step in items { encoder.append(step.item, to: &written) }
        #expect(written == bytes)
        for step in items { expectPrefixesWait(step, in: bytes) }
    }

    @Test("a preempt channel is decoded whole and encodes to the same bytes")
    func preempt() throws {
        let stream = try CapturedStream("postcopy-preempt")
        let bytes = try Vectors.bytes("postcopy-preempt/preempt.bin")
        let items = try steps(bytes, PreemptChannel(of: stream.blocks))
        #expect(items.last?.range.upperBound == bytes.count)
        #expect(items.last?.item == .endOfSection)
        #expect(items.count == 6)
        var records = RAMRecordEncoder(blocks: stream.blocks)
        var written: [UInt8] = []
        for step in items {
            if case .page(let block, let offset, let payload) = step.item {
                if bytes.namesBlock(at: step.range.lowerBound) { records.forgetBlock() }
                records.appendPageHeader(block: block, offset: offset, to: &written)
                written += bytes[payload]
            }
        }
        RAMRecordEncoder.appendEndOfSection(to: &written)
        #expect(written == bytes)
        for step in items {
            let count = step.range.count
            expectPrefixesWait(step, in: bytes) { $0 < 280 || $0 + 8 >= count }
        }
    }

    @Test("a stream that was cut for a recovery ends in the middle of an item")
    func cut() throws {
        let stream = try CapturedStream("postcopy-recover")
        let items = try steps(stream.bytes, stream.decoder)
        let last = try #require(items.last)
        let unread = stream.bytes.count - last.range.upperBound
        var decoder = last.before
        _ = decoder.step(stream.bytes, from: last.range.lowerBound)
        let error = try #require(decoder.endOfInput(unread: unread))
        #expect(error.position == UInt64(stream.bytes.count))
        guard case .truncated = error.kind else {
            Issue.record("\(error)")
            return
        }
        let bytes = try Vectors.bytes("postcopy-recover/return.bin")
        let messages = try steps(bytes, ReturnPathDecoder(blocks: stream.listed, hasAsked: false))
        #expect(messages.last?.range.upperBound == bytes.count)
        #expect(messages.contains { $0.item == .pong(4) })
    }
}
