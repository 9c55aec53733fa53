/// HTML or SVG in which every text is escaped as it is put in: a report's words cannot become markup.
///
/// Names of elements and attributes are literals of this program, never words of a report.
struct Markup {
    let html: String

    init() { html = "" }

    init(text: String) { html = Self.escaped(text) }

    /// What the program itself brings along, a style sheet for one.
    init(verbatim html: StaticString) { self.html = html.description }

    /// Many pieces in a row.
    init(_ pieces: [Markup]) { html = pieces.map(\.html).joined() }

    init(
        _ name: StaticString, _ attributes: Attributes = [:],
        @MarkupBuilder _ content: () -> Markup
    ) {
        html = "<\(name)\(attributes.html)>\(content().html)</\(name)>"
    }

    /// An element that nothing can stand in. SVG's need the slash, and HTML's do not mind it.
    init(empty name: StaticString, _ attributes: Attributes = [:]) {
        html = "<\(name)\(attributes.html)/>"
    }

    /// `text` as it may stand between tags and in quoted values.
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            case "\n", "\t": result.unicodeScalars.append(scalar)
            // Control characters and those that turn the direction of what follows them.
            case _ where scalar.properties.generalCategory == .control,
                "\u{202A}"..."\u{202E}", "\u{2066}"..."\u{2069}":
                result += "\u{FFFD}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

/// The attributes of one element, in their order.
struct Attributes: ExpressibleByDictionaryLiteral {
    private(set) var html = ""

    init(dictionaryLiteral elements: (StaticString, AttributeValue)...) {
        for (name, value) in elements {
            html += " \(name)=\"\(Markup.escaped(value.text))\""
        }
    }
}

/// An attribute's value; numbers in it are written with one digit behind the point.
struct AttributeValue: ExpressibleByStringInterpolation {
    let text: String

    init(stringLiteral text: String) { self.text = text }
    init(stringInterpolation: Interpolation) { text = stringInterpolation.text }

    struct Interpolation: StringInterpolationProtocol {
        var text = ""

        init(literalCapacity: Int, interpolationCount: Int) {
            text.reserveCapacity(literalCapacity)
        }

        mutating func appendLiteral(_ literal: String) { text += literal }
        mutating func appendInterpolation(_ text: String) { self.text += text }
        mutating func appendInterpolation(_ number: Int) { text += "\(number)" }
        mutating func appendInterpolation(_ number: Double) { text += Coordinate.text(number) }
    }
}

/// A length in a drawing.
enum Coordinate {
    /// A tenth is finer than any screen. What is no number stands at 0.
    static func text(_ value: Double) -> String {
        guard value.isFinite else { return "0" }
        let tenths = Int((min(max(value, -lengthMax), lengthMax) * 10).rounded())
        let sign = tenths < 0 ? "-" : ""
        let (whole, rest) = tenths.magnitude.quotientAndRemainder(dividingBy: 10)
        return rest == 0 ? "\(sign)\(whole)" : "\(sign)\(whole).\(rest)"
    }

    /// Far outside any page.
    private static let lengthMax = 1e6
}

/// Lists pieces of markup and texts, which it escapes.
@resultBuilder
enum MarkupBuilder {
    static func buildExpression(_ markup: Markup) -> Markup { markup }
    static func buildExpression(_ text: String) -> Markup { Markup(text: text) }
    static func buildBlock(_ pieces: Markup...) -> Markup { Markup(pieces) }
    static func buildOptional(_ markup: Markup?) -> Markup { markup ?? Markup() }
    static func buildEither(first: Markup) -> Markup { first }
    static func buildEither(second: Markup) -> Markup { second }
    static func buildArray(_ pieces: [Markup]) -> Markup { Markup(pieces) }
}
