/// What a JSON text holds (RFC 8259).
package enum JSONValue: Equatable, Sendable {
    case text(String)
    /// A whole number from 0 to 2^64 - 1, written without an exponent.
    case number(UInt64)
    /// Any other number, as it is written.
    case otherNumber(String)
    case truth(Bool)
    case null
    case list([JSONValue])
    case object([String: JSONValue])
}

/// Why a text is no JSON that is read here.
package struct JSONFault: Error, Equatable, CustomStringConvertible {
    package let position: Int
    package let reason: String
    /// Whether more bytes could make it whole.
    package let isTruncated: Bool

    package var description: String { "byte \(position): \(reason)" }
}

extension JSONValue {
    /// Reads a whole text. Each key may stand once in its object, and nothing may nest deeper than 16.
    package init(parsing bytes: [UInt8]) throws(JSONFault) {
        var reader = JSONReader(bytes: bytes)
        self = try reader.readWhole()
    }

    /// A string as JSON writes it: printable, and the bytes of the string otherwise.
    package static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            // Controls of ASCII and of Latin-1, which a terminal would obey.
            case "\u{0}"..."\u{1f}", "\u{7f}"..."\u{9f}":
                let digits = String(scalar.value, radix: 16)
                quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
