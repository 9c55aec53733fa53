import PageModel
import StreamWire
import Testing

@Suite("refusals of the main channel")
struct RefusalTests {
    /// What refuses a stream, after how many items.
    private func refusal(of stream: [UInt8]) -> WireError? {
        var decoder = mainChannel()
        var cursor = 0
        while true {
            switch decoder.step(stream, from: cursor) {
            case .decoded(.item(_, let consumed)): cursor += consumed
            case .decoded(.needMoreBytes): return nil
            case .refused(let error): return error
            }
        }
    }

    @Test("each is named, with the place of its field", arguments: Refusal.all)
    func refused(_ refusal: Refusal) {
        let prelude = refusal.prelude
        let position = UInt64(prelude.count + refusal.field)
        let expected = WireError(kind: refusal.kind, position: position)
        #expect(self.refusal(of: prelude + refusal.bytes) == expected)
    }

    @Test("each is described in one line with its place", arguments: Refusal.all)
    func described(_ refusal: Refusal) {
        let text = WireError(kind: refusal.kind, position: 77).description
        #expect(text.contains("at byte 77"))
        #expect(!text.hasPrefix(" "))
        #expect(!text.contains("\n"))
    }

    @Test("a beginning of the machine type is accepted, and any without one to expect")
    func machineTypes() throws {
        for (machine, expected) in [("pc-i440fx", "pc-i440fx-7.2"), ("", "q35"), ("virt", nil)] {
            var writer = StreamWriter()
            writer.head(machine)
            writer.endOfStream()
            let decoder = StreamDecoder(blocks: blocks.listed, machineType: expected)
            #expect(try steps(writer.bytes, decoder).first?.item == .head(machineType: machine))
        }
    }

    @Test("a block list may leave our blocks out, and come in any order")
    func shortList() throws {
        var writer = StreamWriter()
        writer.head()
        StreamEncoder.appendSectionStart(id: 2, to: &writer.bytes)
        StreamEncoder.appendBlockList([blocks[2], blocks[0]].listed, to: &writer.bytes)
        writer.end()
        let items = try steps(writer.bytes, mainChannel()).map(\.item)
        #expect(
            items.dropFirst(2).prefix(3) == [
                .memorySize(totalBytes: 0x12000), .blockListed(rom), .blockList(count: 2),
            ])
    }

    @Test("a terminal sees no control characters of the peer")
    func escapes() {
        let error = WireError(kind: .unknownBlock("a\u{1b}[2J\n\u{9b}"), position: 0)
        #expect(error.description.contains("'a\\u{1b}[2J\\u{a}\\u{9b}'"))
    }
}
