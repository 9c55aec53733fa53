import PageModel
import StreamWire
import Testing

@Suite("what was decoded encodes to the same bytes")
struct RoundTripTests {
    @Test("the main channel, item by item")
    func mainStream() throws {
        var records = RAMRecordEncoder(blocks: blocks)
        for step in try steps(postcopyStream, mainChannel()) {
            let source = Array(postcopyStream[step.range])
            var written: [UInt8] = []
            encode(step.item, from: postcopyStream, with: &records, to: &written)
            if case .memorySize(let total) = step.item {
                #expect(total == blocks.reduce(0) { $0 + $1.lengthBytes })
                written = bigEndian(total | 4)
            }
            if case .blockListed(let block) = step.item { written = entry(block) }
            if case .blockList(let count) = step.item {
                #expect(count == blocks.count)
                written = entry(BlockIndex(rawValue: count - 1))
            }
            #expect(written == source)
        }
    }

    @Test(
        "a page size is listed only where it is not the host's ordinary one", arguments: [12, 16])
    func basePage(shift: UInt64) throws {
        let base = try #require(PageSize(bytes: 1 << shift))
        let blocks = try [base, .size2MiB].map { page in
            try BlockGeometry(name: "p\(page.shift)", lengthBytes: 4 << 20, hostPage: page)
        }
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "m", to: &bytes)
        StreamEncoder.appendSectionStart(id: 1, to: &bytes)
        let head = bytes.count
        StreamEncoder.appendBlockList(blocks.listed, basePage: base, to: &bytes)
        #expect(bytes.count - head == 8 + (1 + 3 + 8) * 2 + 8)
        StreamEncoder.appendSectionEnd(id: 1, to: &bytes)
        let decoder = StreamDecoder(blocks: blocks.listed, machineType: nil, basePage: base)
        let items = try steps(bytes, decoder).map(\.item)
        #expect(items.contains(.blockList(count: 2)))
        #expect(items.last == .sectionEnd(id: 1))
    }

    private func entry(_ block: BlockIndex) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendBlockList([blocks[block.rawValue]].listed, to: &bytes)
        return Array(bytes.dropFirst(8))
    }

    private func encode(
        _ item: StreamItem, from stream: [UInt8], with records: inout RAMRecordEncoder,
        to output: inout [UInt8]
    ) {
        switch item {
        case .head(let machine): StreamEncoder.appendHead(machineType: machine, to: &output)
        case .sectionStart(let id): StreamEncoder.appendSectionStart(id: id, to: &output)
        case .sectionResumed(let id, let last):
            StreamEncoder.appendSectionResumed(id: id, last: last, to: &output)
        case .memorySize, .blockListed, .blockList: break
        case .page(let block, let offset, let payload):
            records.appendPageHeader(block: block, offset: offset, to: &output)
            output += stream[payload]
        case .zeroPage(let block, let offset):
            records.appendZeroPage(block: block, offset: offset, to: &output)
        case .sectionEnd(let id): StreamEncoder.appendSectionEnd(id: id, to: &output)
        case .command(let command):
            StreamEncoder.appendCommand(command, blocks: blocks, to: &output)
        case .packageBytes(let range, _), .deviceTail(let range), .trailing(let range):
            output += stream[range]
        case .endOfStream: StreamEncoder.appendEndOfStream(to: &output)
        }
    }

    @Test("the return path")
    func returnPathMessages() throws {
        let items = try steps(returnPathStream, returnPath()).map(\.item)
        #expect(items == StreamWireTests.returnPathMessages)
        var encoder = ReturnPathEncoder(blocks: blocks)
        var written: [UInt8] = []
        for item in items { encoder.append(item, to: &written) }
        #expect(written == returnPathStream)
    }

    @Test("the package and its device")
    func packageAndDevice() throws {
        let blob = package
        let parts = try DevicePackage.parse(blob.span, at: 100)
        #expect(parts.pings == [3, 0x42])
        #expect(DevicePackage.encode(devices: Array(blob[parts.devices])) == blob)
        let decoded = try DeviceSection.decode(blob.span, in: parts.devices, at: 100)
        #expect(decoded.section == device)
        #expect(decoded.next == parts.devices.upperBound)
    }

    @Test("the longest discard is one item")
    func longestDiscard() throws {
        let blocks = makeBlocks([("l", 1 << 40, .target)])
        let ranges = (0..<4095).map { index in
            DiscardRange(start: at(UInt64(index) << 13), lengthBytes: 0x1000)
        }
        let discard = Command.discard(DiscardRanges(block: ram, ranges: ranges))
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "any", to: &bytes)
        StreamEncoder.appendCommand(discard, blocks: blocks, to: &bytes)
        let items = try steps(bytes, StreamDecoder(blocks: blocks.listed, machineType: nil))
        #expect(items.last?.item == .command(discard))
    }

    @Test("a block is named first, after another, and when forgotten")
    func continuation() {
        var encoder = RAMRecordEncoder(blocks: blocks)
        var lengths: [Int] = []
        let pages = [(ram, false), (ram, false), (rom, false), (rom, true), (ram, false)]
        for (block, forget) in pages {
            if forget { encoder.forgetBlock() }
            var bytes: [UInt8] = []
            encoder.appendPageHeader(block: block, offset: at(0), to: &bytes)
            lengths.append(bytes.count)
        }
        #expect(lengths == [15, 8, 19, 19, 15])
    }

    @Test("nothing is written behind SHUT")
    func lastWord() {
        var encoder = ReturnPathEncoder(blocks: [])
        var bytes: [UInt8] = []
        encoder.append(.shut(1), to: &bytes)
        let whole = bytes
        encoder.append(.pong(4), to: &bytes)
        #expect(bytes == whole)
    }
}
