import PageModel
import StreamWire
import Testing

private func decoded(_ bytes: [UInt8]) throws -> ChannelHello? {
    try ChannelHello.decode(bytes.span)
}

private func mayBegin(_ bytes: [UInt8]) -> Bool { ChannelHello.mayBegin(bytes.span) }

@Suite("the bytes of a recovery")
struct RecoveryTests {
    private static let commands: [Command] =
        [.hello(greeting)] + (0..<4).map { .receivedBitmap(block: BlockIndex(rawValue: $0)) }
        + [.heartbeat, .postcopyResume]

    @Test("a token is 16 bytes, 32 digits, and another each time")
    func tokens() {
        #expect(token.description == "0123456789abcdef00fffedcba987654")
        #expect(
            MigrationToken(high: 0, low: 1).description == String(repeating: "0", count: 31) + "1")
        #expect(Set((0..<64).map { _ in MigrationToken.random() }).count == 64)
        let list = returnPathBytes([offer(2, [.refusalReason, .recovery], token)])
        #expect(
            list == [0x50, 0x43, 0, 22, 0, 2, 0, 0, 0, 3] + bigEndian(token.high)
                + bigEndian(token.low))
    }

    @Test("the bytes of each command, and what is read of them")
    func commands() throws {
        let bytes = Self.commands.map { command in
            var bytes: [UInt8] = []
            StreamEncoder.appendCommand(
                command, blocks: recoveredBlocks.map(\.geometry), to: &bytes)
            return bytes
        }
        #expect(
            bytes[0] == [8, 0x50, 0x43, 0, 24] + bigEndian(token.high) + bigEndian(token.low)
                + [0, 0, 0, 0, 0, 0, 0, 3])
        #expect(bytes[0].count == ChannelHello.wireBytes)
        #expect(bytes[1] == [8, 0, 10, 0, 7] + name("pc.ram"))
        #expect(bytes[5] == [8, 0x50, 0x44, 0, 0])
        #expect(bytes[6] == [8, 0, 9, 0, 0])
        let items = try steps(resumedStream, resumedChannel())
        #expect(items.last?.range.upperBound == resumedStream.count)
        #expect(items.last?.item == .endOfStream)
        #expect(items.prefix(Self.commands.count).map(\.item) == Self.commands.map { .command($0) })
        for step in items { expectPrefixesWait(step, in: resumedStream) }
    }

    @Test("the id of the section ram is known from its start to the end of the stream")
    func section() throws {
        let ids = try steps(postcopyStream, mainChannel()).map(\.before.ramSection)
        #expect(ids.first == .some(nil))
        #expect(ids.last == 2)
        let first = try #require(ids.firstIndex(of: 2))
        #expect(ids[..<first].allSatisfy { $0 == nil } && ids[first...].allSatisfy { $0 == 2 })
        #expect(resumedChannel().ramSection == 7)
        let last = try #require(try steps(resumedStream, resumedChannel()).last)
        #expect(last.before.ramSection == 7)
    }

    @Test("a first link takes heartbeats and a hello once they were agreed on")
    func noteExtensions() throws {
        var writer = StreamWriter()
        writer.head()
        writer.command(.heartbeat)
        writer.command(.hello(greeting))
        var decoder = mainChannel()
        guard case .decoded(.item(_, let head)) = decoder.step(writer.bytes) else {
            Issue.record("no head")
            return
        }
        let refusal = WireError(
            kind: .misplaced(.heartbeatNotAgreed), position: UInt64(head + 1))
        #expect(decoder.step(writer.bytes, from: head) == .refused(refusal))
        decoder.noteExtensions()
        #expect(
            decoder.step(writer.bytes, from: head)
                == .decoded(.item(.command(.heartbeat), consumed: 5)))
        #expect(
            decoder.step(writer.bytes, from: head + 5)
                == .decoded(.item(.command(.hello(greeting)), consumed: ChannelHello.wireBytes)))
    }

    @Test("a return path brings bitmaps, answers and heartbeats")
    func returnPath() throws {
        let items = try steps(resumedReturnStream, resumedReturnPath())
        #expect(items.last?.range.upperBound == resumedReturnStream.count)
        let messages = items.map(\.item)
        #expect(messages.first == .recoveryAnswer(.running))
        #expect(messages.count { $0 == .heartbeat } == 4)
        #expect(
            messages.suffix(4) == [
                .resumeAcknowledged,
                .requestPages(block: ram, start: at(0x1000), lengthBytes: 0x1000),
                .refusalReason("enough"), .shut(1),
            ])
        for (index, received) in receivedBitmaps.enumerated() {
            let block = BlockIndex(rawValue: index)
            let begin = try #require(messages.firstIndex(of: .receivedBitmap(block: block)))
            guard case .bitmapBytes(block, firstWord: 0, let range) = messages[begin + 1] else {
                Issue.record("\(messages[begin + 1])")
                continue
            }
            var bits: [UInt8] = []
            received.appendTargetBits(
                pageCount: recoveredBlocks[index].geometry.targetPageCount, to: &bits)
            #expect(Array(resumedReturnStream[range]) == bits)
            #expect(messages[begin + 2] == .bitmapEnd(block: block))
        }
        for step in items {
            if case .bitmapBytes = step.item { continue }
            expectPrefixesWait(step, in: resumedReturnStream)
        }
    }

    @Test("however the bytes come, the same words are read", arguments: [1, 7, 8, 9, 16, 63, 100])
    func pieces(size: Int) throws {
        let whole = try steps(resumedReturnStream, resumedReturnPath())
        var decoder = resumedReturnPath()
        var buffer: [UInt8] = []
        var words: [BlockIndex: [UInt8]] = [:]
        var others: [ReturnPathMessage] = []
        for start in stride(from: 0, to: resumedReturnStream.count, by: size) {
            buffer += resumedReturnStream[start..<min(start + size, resumedReturnStream.count)]
            while case .decoded(.item(let item, let consumed)) = decoder.step(buffer) {
                if case .bitmapBytes(let block, let first, let range) = item {
                    #expect(first * 8 == words[block, default: []].count)
                    #expect(range == 0..<consumed && consumed % 8 == 0)
                    words[block, default: []] += buffer[range]
                } else {
                    others.append(item)
                }
                buffer.removeFirst(consumed)
            }
        }
        #expect(buffer.isEmpty && decoder.position == UInt64(resumedReturnStream.count))
        for step in whole {
            if case .bitmapBytes(let block, _, let range) = step.item {
                #expect(words[block] == Array(resumedReturnStream[range]))
            }
        }
        #expect(
            others == whole.map(\.item).filter { if case .bitmapBytes = $0 { false } else { true } }
        )
    }

    @Test("a bitmap has the length that the guest uses of its block")
    func usedLength() throws {
        let block = makeBlocks([("pc.ram", 0x100_0000, .target)])[0]
        let used = [ListedBlock(block, usedBytes: 0x8_2000, isResizable: true)]
        var encoder = ReturnPathEncoder(blocks: [block])
        encoder.resize(used)
        let received = ReceivedBitmap(block: block)
        received.insert(HostPageIndex(rawValue: 0)..<HostPageIndex(rawValue: block.hostPageCount))
        var bytes: [UInt8] = []
        encoder.appendReceivedBitmap(of: ram, received, to: &bytes)
        var decoder = ReturnPathDecoder(blocks: used)
        decoder.expectsBitmaps()
        let items = try steps(bytes, decoder)
        #expect(items.map(\.range.count) == [4 + 7 + 8, 24, 8])
        #expect(
            Array(bytes[items[1].range]) == Array(repeating: 0xff, count: 16) + [3]
                + Array(repeating: 0, count: 7))
    }

    @Test("an urgent channel beats between its records, and a heartbeat names no block")
    func urgent() throws {
        let items = try steps(beatingStream, PreemptChannel(acceptsHeartbeats: true))
        #expect(items.last?.range.upperBound == beatingStream.count)
        #expect(
            items.map(\.item) == [
                .heartbeat, .zeroPage(block: ram, offset: at(0x3000)), .heartbeat, .heartbeat,
                .zeroPage(block: ram, offset: at(0x4000)), .heartbeat, .endOfSection,
            ])
        #expect(items.map(\.range.count) == [8, 16, 8, 8, 9, 8, 8])
        #expect(Array(beatingStream.prefix(8)) == [0x50, 0x43, 0x42, 0x45, 0x41, 0x54, 0, 0])
        for step in items { expectPrefixesWait(step, in: beatingStream) }
        var stock = PreemptChannel()
        let refusal = WireError(kind: .misplaced(.heartbeatNotAgreed), position: 0)
        #expect(stock.step(beatingStream) == .refused(refusal))
    }

    @Test(
        "a hello of each channel is read from its bytes, and no fewer",
        arguments: ChannelHello.Channel.allCases)
    func hello(channel: ChannelHello.Channel) throws {
        for attempt: UInt32 in [0, 1, .max] {
            let hello = ChannelHello(token: token, channel: channel, attempt: attempt)
            var bytes: [UInt8] = []
            hello.append(to: &bytes)
            #expect(bytes.count == ChannelHello.wireBytes)
            for length in 0..<bytes.count {
                let prefix = Array(bytes.prefix(length))
                #expect(try decoded(prefix) == nil)
                #expect(mayBegin(prefix))
            }
            bytes += [1, 2, 3]
            #expect(try decoded(bytes) == hello)
        }
    }

    @Test("any other byte of its header is refused as soon as it is there")
    func noHello() {
        var bytes: [UInt8] = []
        greeting.append(to: &bytes)
        for index in 0..<5 {
            for value in UInt8.min...UInt8.max where value != bytes[index] {
                var other = bytes
                other[index] = value
                for length in [index + 1, 5, bytes.count] where length > index {
                    let prefix = Array(other.prefix(length))
                    let refusal = WireError(kind: .notHello(value), position: UInt64(index))
                    #expect(throws: refusal) { try decoded(prefix) }
                    #expect(!mayBegin(prefix))
                }
            }
        }
        bytes[24] = 2
        let refusal = WireError(kind: .unknownChannel(2), position: 21)
        #expect(throws: refusal) { try decoded(bytes) }
        #expect(throws: refusal) { try decoded(Array(bytes.prefix(25))) }
    }
}
