import PageModel
import StreamWire
import Testing
import TestSupport

@Suite("input that ends early, or comes in pieces")
struct PrefixTests {
    @Test("every proper prefix of every main item asks for more and moves nothing")
    func mainPrefixes() throws {
        for stream in [postcopyStream, precopyStream] {
            for step in try steps(stream, mainChannel()) {
                switch step.item {
                case .packageBytes, .deviceTail, .trailing: continue
                default: break
                }
                expectPrefixesWait(step, in: stream)
            }
        }
    }

    @Test("every proper prefix of every return path message asks for more and moves nothing")
    func returnPathPrefixes() throws {
        for stream in [returnPathStream, extendedStream, laterListStream] {
            for step in try steps(stream, returnPath()) {
                expectPrefixesWait(step, in: stream)
            }
        }
    }

    @Test("every proper prefix of every preempt record asks for more and moves nothing")
    func preemptPrefixes() throws {
        for step in try steps(preemptStream, PreemptChannel()) {
            expectPrefixesWait(step, in: preemptStream)
        }
    }

    @Test("the longest waits: a discard of 65,535 bytes, and a page of a block with a long name")
    func longestWaits() throws {
        var head: [UInt8] = []
        StreamEncoder.appendHead(machineType: "", to: &head)
        let long = String(repeating: "n", count: 255)
        let blocks = makeBlocks([(long, 0x1000, .target)])
        var main = StreamDecoder(blocks: blocks.listed, machineType: nil)
        #expect(
            main.step(head + [8]) == .decoded(.item(.head(machineType: ""), consumed: head.count)))
        #expect(main.step([8, 0, 6, 0xff, 0xff]) == .decoded(.needMoreBytes(atLeast: 65_540)))

        var encoder = RAMRecordEncoder(blocks: blocks)
        var record: [UInt8] = []
        encoder.appendPageHeader(block: ram, offset: at(0), to: &record)
        #expect(record.count == RAMRecordEncoder.headerBytesMax - 1)
        var decoder = RAMRecordDecoder(blocks: blocks.listed)
        let wait = try decoder.next(in: record.span, from: 0, position: 0)
        #expect(wait == .needMoreBytes(atLeast: record.count + 4096))
    }

    @Test("a main channel cut at any byte is refused there, except behind its end")
    func mainCuts() throws {
        let end = postcopyStream.count
        try expectCutsRefused(postcopyStream, mainChannel()) { $0 == end }
        let tail = 1 + 4 + 2
        let precopyEnd = precopyStream.count - tail
        try expectCutsRefused(precopyStream, mainChannel()) { $0 >= precopyEnd }
    }

    @Test("a return path cut at any byte is refused there, except behind SHUT")
    func returnPathCuts() throws {
        for stream in [returnPathStream, extendedStream] {
            try expectCutsRefused(stream, returnPath()) { $0 == stream.count }
        }
    }

    @Test("a preempt channel may be closed between records and nowhere else")
    func preemptCuts() throws {
        let ends = Set(try steps(preemptStream, PreemptChannel()).map(\.range.upperBound) + [0])
        try expectCutsRefused(preemptStream, PreemptChannel()) { ends.contains($0) }
    }

    private func expectCutsRefused<Decoder: ChannelDecoder>(
        _ stream: [UInt8], _ start: Decoder, isProperEnd: (Int) -> Bool
    ) throws {
        var decoder = start
        var cursor = 0
        for length in 0...stream.count {
            let bytes = Array(stream.prefix(length))
            while case .decoded(.item(_, let consumed)) = decoder.step(bytes, from: cursor) {
                cursor += consumed
            }
            let error = decoder.endOfInput(unread: length - cursor)
            guard (error == nil) == isProperEnd(length) else {
                Issue.record("cut at \(length): \(String(describing: error))")
                return
            }
            guard let error else { continue }
            guard error.position == UInt64(length), case .truncated = error.kind,
                error.description.hasPrefix("the peer closed the channel in the middle of ")
            else {
                Issue.record("cut at \(length): \(error)")
                return
            }
        }
    }

    @Test("the same items come whole, byte by byte and in any pieces", arguments: 0..<12)
    func chunks(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let longest = seed == 0 ? 1 : 1 << seed
        for stream in [postcopyStream, precopyStream, completedStream + description] {
            try expectSame(stream, mainChannel(), longest: longest, random: &random)
        }
        for stream in [returnPathStream, extendedStream, laterListStream] {
            try expectSame(stream, returnPath(), longest: longest, random: &random)
        }
        try expectSame(preemptStream, PreemptChannel(), longest: longest, random: &random)
    }

    private func expectSame<Decoder: ChannelDecoder>(
        _ stream: [UInt8], _ start: Decoder, longest: Int, random: inout SeededRandom
    ) throws {
        var whole: [Observation] = []
        for step in try steps(stream, start) { observe(step.item, in: stream, into: &whole) }

        var decoder = start
        var pieces: [Observation] = []
        var buffer: [UInt8] = []
        var fed = 0
        while fed < stream.count {
            let count = min(stream.count - fed, 1 + random.below(longest))
            buffer += stream[fed..<fed + count]
            fed += count
            while case .decoded(.item(let item, let consumed)) = decoder.step(buffer) {
                observe(item, in: buffer, into: &pieces)
                buffer.removeFirst(consumed)
            }
        }
        #expect(pieces == whole)
        #expect(buffer.isEmpty)
        #expect(decoder.position == UInt64(stream.count))
    }
}
