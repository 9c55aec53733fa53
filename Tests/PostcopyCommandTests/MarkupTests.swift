import TestSupport
import Testing

@testable import PostcopyCommand

@Suite struct MarkupTests {
    @Test("no text and no value of an attribute can begin or end anything")
    func escaping() {
        var random = SeededRandom(seed: 1)
        let alphabet = Array("<>&\"'`=/ a\u{0}\u{7}\u{1B}\u{202E}\u{2066}é☃")
        for _ in 0..<500 {
            let text = String(
                (0..<random.below(20)).map { _ in alphabet[random.below(alphabet.count)] })
            let html = Markup("p", ["title": "\(text)"]) { text }.html
            #expect(html.filter { $0 == "<" }.count == 2, "\(text)")
            #expect(html.filter { $0 == ">" }.count == 2, "\(text)")
            #expect(html.filter { $0 == "\"" }.count == 2, "\(text)")
            #expect(!html.unicodeScalars.contains { $0.properties.generalCategory == .control })
            #expect(!html.unicodeScalars.contains("\u{202E}") && !html.contains("\u{2066}"))
        }
    }

    @Test("what is escaped reads as it was written")
    func meaning() {
        #expect(
            Markup(text: "a < b & \"c\" > 'd'").html
                == "a &lt; b &amp; &quot;c&quot; &gt; &#39;d&#39;")
        #expect(Markup(text: "&lt;").html == "&amp;lt;")
        #expect(Markup(text: "two\nlines\tand ☃").html == "two\nlines\tand ☃")
    }

    @Test("elements stand in each other in the order in which they are written")
    func nesting() {
        let isAsked = true
        let markup = Markup("ul", ["class": "a", "data-n": "\(7)"]) {
            for index in 0..<2 { Markup("li") { "\(index)" } }
            if isAsked { Markup(empty: "hr") }
        }
        #expect(markup.html == "<ul class=\"a\" data-n=\"7\"><li>0</li><li>1</li><hr/></ul>")
    }

    @Test(
        "a coordinate has one digit behind the point and is always a number",
        arguments: [
            (0, "0"), (1, "1"), (0.25, "0.3"), (-0.04, "0"), (-1.26, "-1.3"), (99.96, "100"),
            (.nan, "0"), (.infinity, "0"), (1e300, "1000000"), (-1e300, "-1000000"),
        ] as [(Double, String)])
    func coordinates(value: Double, text: String) {
        #expect(Coordinate.text(value) == text)
    }
}
