import Postcopy
import Testing

@testable import PostcopyCommand

@Suite("Blocks one behind the other")
struct JoinedContentTests {
    /// Pages that say which block and which page they are; every third block is zero.
    private struct NumberedPages: PageProvider {
        func read(
            _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
        ) throws(PageProviderError) -> PageContent {
            if block.rawValue % 3 == 2 { return .zeros }
            for index in bytes.indices {
                bytes[index] = NumberedPages.byte(block.rawValue, offset.rawValue + UInt64(index))
            }
            return .bytes
        }

        static func byte(_ block: Int, _ offset: UInt64) -> UInt8 {
            UInt8(truncatingIfNeeded: UInt64(block) << 5 ^ offset >> 12 ^ offset)
        }
    }

    private static let lengths: [UInt64] = [0x3000, 0x1000, 0x4000, 0x2000, 0x5000]
    private static let content = JoinedContent(
        .park, at: "a folder", pages: NumberedPages(), lengths: lengths)

    /// The content as the blocks have it, byte by byte.
    private static let expected: [UInt8] = lengths.enumerated().flatMap { block, length in
        (0..<length).map { block % 3 == 2 ? 0 : NumberedPages.byte(block, $0) }
    }

    @Test("any run of pages is read, whatever blocks it has parts of")
    func runs() throws {
        let total = Self.expected.count
        #expect(Self.content.lengthBytes == UInt64(total))
        for start in stride(from: 0, to: total, by: 0x1000) {
            for end in stride(from: start + 0x1000, through: total, by: 0x1000) {
                var bytes = [UInt8](repeating: 0xaa, count: end - start)
                var span = bytes.mutableSpan
                let found = try Self.content.read(&span, at: UInt64(start))
                let wanted = Self.expected[start..<end]
                if found == .zeros {
                    #expect(wanted.allSatisfy { $0 == 0 }, "\(start)..<\(end)")
                } else {
                    #expect(bytes.elementsEqual(wanted), "\(start)..<\(end)")
                }
            }
        }
    }

    @Test("a client's regions are found where their content begins")
    func regions() throws {
        let pages = RegionPages(content: Self.content, offsets: [0x8000, 0x1000])
        for (block, start) in [(0, 0x9000), (1, 0x2000)] {
            var bytes = [UInt8](repeating: 0, count: 0x1000)
            var span = bytes.mutableSpan
            let found = try pages.read(
                &span, at: RAMOffset(rawValue: 0x1000), of: BlockIndex(rawValue: block))
            #expect(found == .bytes)
            #expect(bytes.elementsEqual(Self.expected[start..<start + 0x1000]))
        }
    }
}
