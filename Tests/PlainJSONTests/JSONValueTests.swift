import Foundation
import PlainJSON
import TestSupport
import Testing

@Suite("JSON texts")
struct JSONValueTests {
    private func parse(_ text: String) throws(JSONFault) -> JSONValue {
        try JSONValue(parsing: Array(text.utf8))
    }

    @Test("what JSON may hold is read as RFC 8259 says")
    func reads() throws {
        #expect(try parse(" { } ") == .object([:]))
        #expect(try parse("[]") == .list([]))
        #expect(try parse("[1,\t0 ,\r\n\"\"]") == .list([.number(1), .number(0), .text("")]))
        #expect(try parse("18446744073709551615") == .number(.max))
        #expect(
            try parse("[true,false, null]") == .list([.truth(true), .truth(false), .null]))
        for other in ["18446744073709551616", "-1", "-0", "1.5", "1e3", "0.0E-7", "1E+2"] {
            #expect(try parse(other) == .otherNumber(other))
        }
        #expect(
            try parse(#"{"a": {"b": [{"c": "d"}]}}"#)
                == .object(["a": .object(["b": .list([.object(["c": .text("d")])])])]))
        #expect(try parse(#""\"\\\/\b\f\n\r\t""#) == .text("\"\\/\u{8}\u{c}\n\r\t"))
        #expect(try parse(#""\u00e9\u00E9\ud83e\udde0é🧠""#) == .text("éé🧠é🧠"))
        #expect(try parse("\"\u{7f}\"") == .text("\u{7f}"))
    }

    @Test(
        "everything else is refused with its place",
        arguments: [
            ("", 0), ("  ", 2), ("[", 1), ("[1", 2), ("[1,", 3), ("[1,]", 3), ("[1 2]", 3),
            ("{", 1), ("{1:2}", 1), (#"{"a"}"#, 4), (#"{"a":}"#, 5), (#"{"a":1,}"#, 7),
            (#"{"a":1,"a":2}"#, 10), ("1 1", 2), ("01", 0), ("-01", 0), ("-", 1), ("1.", 2),
            ("1.e1", 2), ("1e", 2), ("1e+-1", 3), (".5", 0), ("+1", 0), ("NaN", 0), ("tru", 0),
            ("nul!", 0), ("True", 0), ("\"", 1), ("\"a", 2),
            (#""\"#, 2), (#""\x""#, 2), (#""\u12""#, 2), (#""\u12g4""#, 2), (#""\ud83e""#, 7),
            (#""\ud83e\n""#, 8), (#""\udde0""#, 7), ("\"a\nb\"", 2),
        ])
    func refuses(text: String, position: Int) {
        #expect(throws: JSONFault.self) { try parse(text) }
        do throws(JSONFault) { _ = try parse(text) } catch {
            #expect(error.position == position, "\(text): \(error)")
        }
    }

    @Test("a text that only ends too early is told from one that is wrong")
    func truncation() throws {
        let text = #"[{"a\u00e9": [1.5e3, true, "\ud83e\udde0", 70, null]}, {}]"#
        let bytes = Array(text.utf8)
        for length in 0..<bytes.count {
            do throws(JSONFault) {
                _ = try JSONValue(parsing: Array(bytes[..<length]))
                Issue.record("\(length) bytes were taken for all")
            } catch { #expect(error.isTruncated, "\(length): \(error)") }
        }
        for wrong in ["[1 2", "{1", "[x", #"["\x"#, #"["\u12g"#, "[01", "[1,]"] {
            do throws(JSONFault) {
                _ = try parse(wrong)
                Issue.record("\(wrong) was read")
            } catch { #expect(!error.isTruncated, "\(wrong): \(error)") }
        }
    }

    @Test("bytes that are no UTF-8 are refused")
    func encoding() {
        for bytes in [[0x22, 0xff, 0x22], [0x22, 0xc3, 0x22], [0xef, 0xbb, 0xbf, 0x31]] as [[UInt8]]
        {
            #expect(throws: JSONFault.self) { try JSONValue(parsing: bytes) }
        }
    }

    @Test("a text of brackets alone is refused before the stack is used up")
    func nesting() throws {
        _ = try parse(String(repeating: "[", count: 16) + String(repeating: "]", count: 16))
        for bracket in ["[", "{\"a\":"] {
            #expect(throws: JSONFault.self) {
                try parse(String(repeating: bracket, count: 100_000))
            }
        }
    }

    @Test(
        "what is quoted is read as it was, here and by others", arguments: 0..<50 as Range<UInt64>)
    func quotes(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var text = String.UnicodeScalarView()
        for _ in 0..<200 {
            let limit = [0x20, 0x80, 0x100, 0x800, 0x11_0000][random.below(5)]
            if let scalar = UnicodeScalar(UInt32(random.below(limit))) { text.append(scalar) }
        }
        let quoted = JSONValue.quoted(String(text))
        let value = try parse(quoted)
        guard case .text(let read) = value else {
            Issue.record("\(value)")
            return
        }
        #expect(Array(read.utf8) == Array(String(text).utf8))
        let others = try JSONSerialization.jsonObject(
            with: Data("[\(quoted)]".utf8), options: [.fragmentsAllowed])
        #expect((others as? [String]) == [String(text)])
        #expect(quoted.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7f...0x9f ~= $0.value) })
    }
}
