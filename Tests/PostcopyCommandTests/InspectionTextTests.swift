import TestSupport
import Testing

@testable import PostcopyCommand

@Suite struct InspectionTextTests {
    @Test("cells stand in columns, the widest cell wide, and no line ends in blanks")
    func columns() {
        let columns = TextColumns([.left, .right, .left], widthsMin: [4])
        #expect(
            columns.lines([["a", "1", ""], ["bc", "10", "x"]]) == ["a      1", "bc    10  x"])
        #expect(TextColumns([.left, .left]).lines([["a", ""], ["b", ""]]) == ["a", "b"])
        #expect(TextColumns([.left]).lines([]) == [])
    }

    @Test("an excerpt shows the row of the place and its neighbours, and marks the byte")
    func excerpt() {
        let bytes = (0..<0x40).map { UInt8($0 + 0x20) }
        #expect(
            HexExcerpt.lines(of: bytes, from: 0x100, markAt: 0x112) == [
                "0x100  20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f   !\"#$%&'()*+,-./",
                "0x110  30 31 32 33 34 35 36 37 38 39 3a 3b 3c 3d 3e 3f  0123456789:;<=>?",
                "             ^^",
                "0x120  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO",
            ])
    }

    @Test("an excerpt has what there is: at the start, behind the end, and of nothing")
    func shortExcerpt() {
        #expect(
            HexExcerpt.lines(of: [7], from: 0, markAt: 0) == [
                "0x0  07" + String(repeating: " ", count: 47) + ".", "     ^^",
            ])
        let row = Array(repeating: UInt8(0x41), count: 16)
        let text = String(repeating: "41 ", count: 16) + " " + String(repeating: "A", count: 16)
        #expect(
            HexExcerpt.lines(of: row, from: 0, markAt: 16) == [
                "0x0  \(text)", "0x10  ", "      ^^",
            ])
        #expect(HexExcerpt.lines(of: [], from: 0, markAt: 0) == ["0x0  ", "     ^^"])
        let last = HexExcerpt.lines(of: row, from: 1 << 60, markAt: 1 << 60)
        #expect(last.first == "0x1000000000000000  \(text)")
    }

    @Test(
        "a file is known by its first bytes",
        arguments: [
            ([0x51], ChannelKind.main), ([0x51, 0x45, 0x56, 0x4d, 0], .main),
            ([0x51, 0x45, 0x56, 0x4c], .unknown), ([0, 2, 0, 4, 0, 0, 0, 1], .returnPath),
            ([0, 3, 0, 0x13, 0], .returnPath), ([0, 4, 0, 12], .unknown),
            ([0, 0, 0, 0, 0, 0, 0x10, 0x08, 3, 0x72, 0x61, 0x6d], .preempt),
            ([0, 0, 0, 0, 0, 0, 0, 0x10], .preempt), ([0, 0, 0, 0, 0, 0, 0x10, 0x28], .unknown),
            ([8, 0, 0x0a, 0, 7], .recovery), ([0x11, 0x22, 0x33, 0x44], .multifd),
            ([0x1f, 0x8b, 8], .compressed(by: "gzip")), ([0x7f, 0x45], .unknown),
            (Array("LibvirtQemudSave".utf8), .libvirtImage),
        ] as [([UInt8], ChannelKind)])
    func kinds(bytes: [UInt8], kind: ChannelKind) {
        #expect(ChannelKind(bytes) == kind)
        #expect((kind.refusal(asMain: "f", firstBytes: bytes) == nil) == (kind == .main))
    }

    @Test("a size that is whole has no point")
    func sizes() {
        #expect(InspectionText.size(256 << 20) == "256 MiB")
        #expect(InspectionText.size(1536) == "1.50 KiB")
        #expect(InspectionText.size(0) == "0 B")
        #expect(InspectionText.size(5 << 50) == "5120 TiB")
    }
}
