import PageModel
import StreamWire
import Testing

@Suite("the parts of a configuration, and what they change")
struct HeadSubsectionTests {
    private func introduction(
        _ stream: [UInt8], ignoresShared: Bool
    ) throws -> StreamIntroduction? {
        let step = try StreamIntroduction.decode(stream.span, ignoresShared: ignoresShared)
        guard case .item(let found, _) = step else { return nil }
        return found
    }

    @Test("each is read as it was written")
    func parts() throws {
        let found = try #require(try introduction(precopyStream, ignoresShared: false))
        let parts = try HeadSubsection.decode(found.configuration.span)
        #expect(
            parts == [
                .targetPageBits(12), .capabilities([]), .uuid(pattern(1, count: 16)),
            ])
        #expect(try HeadSubsection.decode([UInt8]().span) == [])
    }

    @Test("bytes that no decoder has taken are refused or read, and never trap")
    func foreign() throws {
        let found = try #require(try introduction(precopyStream, ignoresShared: false))
        for length in 1..<found.configuration.count {
            let prefix = Array(found.configuration.prefix(length))
            let parts = try? HeadSubsection.decode(prefix.span)
            #expect((parts?.count ?? 0) < 3)
        }
        var endless = [0x05] + name("configuration/capabilities") + bigEndian(UInt32(1))
        endless += bigEndian(UInt32.max)
        #expect(throws: WireError.self) { try HeadSubsection.decode(endless.span) }
    }

    @Test("with x-ignore-shared a list says where the guest sees each block, and no page size")
    func ignoredSharedMemory() throws {
        let listed = [blocks[0], blocks[2]].enumerated().map { index, block in
            ListedBlock(block, guestPhysicalAddress: UInt64(index + 1) << 32)
        }
        var stream: [UInt8] = []
        StreamEncoder.appendHead(machineType: "pc", ignoresShared: true, to: &stream)
        StreamEncoder.appendSectionStart(id: 3, to: &stream)
        StreamEncoder.appendBlockList(listed, ignoresShared: true, to: &stream)
        StreamEncoder.appendSectionEnd(id: 3, to: &stream)
        let found = try #require(try introduction(stream, ignoresShared: true))
        #expect(found.blocks.map(\.name) == ["pc.ram", "/rom@etc/x"])
        #expect(found.blocks.map(\.usedBytes) == [0x10000, 0x2000])
        #expect(found.blocks.map(\.guestPhysicalAddress) == [1 << 32, 2 << 32])
        #expect(
            try HeadSubsection.decode(found.configuration.span)
                == [.capabilities(["x-ignore-shared"])])
        #expect(throws: WireError.self) { try introduction(stream, ignoresShared: false) }
        #expect(throws: WireError.self) { try introduction(precopyStream, ignoresShared: true) }
    }
}
