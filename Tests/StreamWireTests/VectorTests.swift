import PageModel
import StreamWire
import Testing

/// Bytes as QEMU 7.2 sends them for a PC of 128 MiB.
@Suite("bytes of a real QEMU, read and written")
struct VectorTests {
    let pc = makeBlocks([
        ("pc.ram", 0x800_0000, .target), ("/rom@etc/acpi/tables", 0x20000, .target),
        ("pc.bios", 0x40000, .target), ("pc.rom", 0x20000, .target),
        ("/rom@etc/table-loader", 0x1000, .target), ("/rom@etc/acpi/rsdp", 0x1000, .target),
    ])

    @Test("the head, the commands and the RAM section")
    func mainStream() throws {
        var expected: [UInt8] = [0x51, 0x45, 0x56, 0x4d, 0, 0, 0, 3, 7, 0, 0, 0, 13]
        expected += Array("pc-i440fx-7.2".utf8)
        expected += [8, 0, 1, 0, 0]
        expected += [8, 0, 2, 0, 4, 0, 0, 0, 1]
        expected += [8, 0, 3, 0, 0x10, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]
        expected += [1, 0, 0, 0, 2, 3] + Array("ram".utf8) + [0, 0, 0, 0, 0, 0, 0, 4]
        expected += [0, 0, 0, 0, 8, 8, 0x20, 4, 6] + Array("pc.ram".utf8)
        expected += [0, 0, 0, 0, 8, 0, 0, 0]
        for block in pc.dropFirst() { expected += name(block.name) + bigEndian(block.lengthBytes) }
        let ending: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0x10, 0x7e, 0, 0, 0, 2]
        expected += ending
        expected += [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x10, 0, 8, 6] + Array("pc.ram".utf8)
        expected += pattern(1) + [0, 0, 0, 0, 0, 0x10, 0x10, 0x28] + pattern(2) + ending
        expected += [8, 0, 6, 0, 0x19, 0, 6] + Array("pc.ram".utf8) + [0]
        expected += bigEndian(UInt64(0x100000)) + bigEndian(UInt64(0x2000))
        expected += [8, 0, 7, 0, 4, 0, 0, 0x32, 0x8f]

        var written: [UInt8] = []
        var records = RAMRecordEncoder(blocks: pc)
        StreamEncoder.appendHead(machineType: "pc-i440fx-7.2", to: &written)
        let summary = Command.postcopyAdvise(pageSizeSummary: 4096, targetPageBytes: 4096)
        for command in [Command.openReturnPath, .ping(1), summary] {
            StreamEncoder.appendCommand(command, blocks: pc, to: &written)
        }
        StreamEncoder.appendSectionStart(id: 2, to: &written)
        StreamEncoder.appendBlockList(pc.listed, to: &written)
        StreamEncoder.appendSectionEnd(id: 2, to: &written)
        StreamEncoder.appendSectionResumed(id: 2, last: false, to: &written)
        records.appendPageHeader(block: ram, offset: at(0x100000), to: &written)
        written += pattern(1)
        records.appendPageHeader(block: ram, offset: at(0x101000), to: &written)
        written += pattern(2)
        StreamEncoder.appendSectionEnd(id: 2, to: &written)
        let dirty = DirtyBitmap(block: pc[0], allDirty: false)
        dirty.insert(0x100..<0x102)
        written += discards(of: [dirty]).bytes
        StreamEncoder.appendCommand(.packaged(lengthBytes: 12943), blocks: pc, to: &written)
        #expect(written == expected)

        let decoder = StreamDecoder(blocks: pc.listed, machineType: "pc-i440fx-7.2")
        let items = try steps(expected, decoder)
        #expect(items.last?.range.upperBound == expected.count)
        #expect(items.last?.item == .command(.packaged(lengthBytes: 12943)))
        #expect(items.contains { $0.item == .blockList(count: 6) })
    }

    @Test("the return path")
    func returnPathStream() throws {
        var expected: [UInt8] = [0, 2, 0, 4, 0, 0, 0, 1]
        expected += [0, 3, 0, 0x13, 0, 0, 0, 0, 1, 1, 0xb0, 0, 0, 0, 0x10, 0, 6]
        expected += Array("pc.ram".utf8)
        expected += [0, 4, 0, 0x0c, 0, 0, 0, 0, 1, 0x46, 0x90, 0, 0, 0, 0x10, 0]
        expected += [0, 1, 0, 4, 0, 0, 0, 0]
        let messages: [ReturnPathMessage] = [
            .pong(1), .requestPages(block: ram, start: at(0x101_b000), lengthBytes: 4096),
            .requestPages(block: ram, start: at(0x146_9000), lengthBytes: 4096), .shut(0),
        ]
        var encoder = ReturnPathEncoder(blocks: pc)
        var written: [UInt8] = []
        for message in messages { encoder.append(message, to: &written) }
        #expect(written == expected)
        #expect(
            try steps(expected, ReturnPathDecoder(blocks: pc.listed, hasAsked: false)).map(\.item)
                == messages)
    }

    @Test("the package around no device and one ping, as QEMU before 10.2 sends it")
    func package() throws {
        let blob: [UInt8] = [8, 0, 4, 0, 0, 0xaa, 8, 0, 2, 0, 4, 0, 0, 0, 3, 8, 0, 5, 0, 0]
        let parts = try DevicePackage.parse(blob.span, at: 0)
        #expect(parts.devices == 5..<6)
        #expect(parts.pings == [3])
    }
}
