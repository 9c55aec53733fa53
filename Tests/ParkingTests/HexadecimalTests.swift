import Testing

@testable import Parking

@Suite struct HexadecimalTests {
    @Test("bytes and their digits are each other's")
    func hexadecimal() {
        let bytes = (0...255).map { UInt8($0) }
        #expect(Hexadecimal.bytes(Hexadecimal.text(bytes)) == bytes)
        #expect(Hexadecimal.bytes(Hexadecimal.text(bytes).uppercased()) == bytes)
        #expect(Hexadecimal.text(0x00ab_0102 as UInt32) == "00ab0102")
        #expect(Hexadecimal.bytes("") == [])
        for text in ["0", "0g", "é0", " 00", "0x"] { #expect(Hexadecimal.bytes(text) == nil) }
    }
}
