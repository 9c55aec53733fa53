/// What a JSON text holds, as far as manifests need it: no fractions, no negative numbers, and neither
/// truth nor null.
enum JSONValue: Equatable, Sendable {
    case text(String)
    case number(UInt64)
    case list([JSONValue])
    case object([String: JSONValue])
}

/// Why a text is no such JSON.
struct JSONFault: Error, Equatable, CustomStringConvertible {
    let position: Int
    let reason: String

    var description: String { "byte \(position): \(reason)" }
}

extension JSONValue {
    /// Reads a whole text (RFC 8259). Each key may stand once in its object.
    init(parsing bytes: [UInt8]) throws(JSONFault) {
        var reader = JSONReader(bytes: bytes)
        self = try reader.readWhole()
    }

    /// A string as JSON writes it: printable, and the bytes of the string otherwise.
    static func quoted(_ text: String) -> String {
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

/// The state of one reading.
private struct JSONReader {
    let bytes: [UInt8]
    private var index = 0
    private var depth = 0

    /// A manifest nests three deep; a text of brackets alone must not use up the stack.
    private static let depthMax = 16
    private static let digits = UInt8(ascii: "0")...UInt8(ascii: "9")

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func readWhole() throws(JSONFault) -> JSONValue {
        let value = try read()
        skipSpace()
        guard index == bytes.count else { throw fault("the text goes on behind its end") }
        return value
    }

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private func fault(_ reason: String) -> JSONFault {
        JSONFault(position: index, reason: next == nil ? "the text ends too early" : reason)
    }

    private mutating func read() throws(JSONFault) -> JSONValue {
        skipSpace()
        switch next {
        case UInt8(ascii: "\""): return .text(try readText())
        case let digit? where Self.digits.contains(digit): return .number(try readNumber())
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            guard depth < Self.depthMax else { throw fault("nested too deep") }
            depth += 1
            defer { depth -= 1 }
            return next == UInt8(ascii: "[") ? try readList() : try readObject()
        default: throw fault("neither a string, a whole number, a list nor an object")
        }
    }

    private mutating func readList() throws(JSONFault) -> JSONValue {
        index += 1
        var values: [JSONValue] = []
        if skip("]") { return .list([]) }
        repeat { values.append(try read()) } while skip(",")
        try expect("]")
        return .list(values)
    }

    private mutating func readObject() throws(JSONFault) -> JSONValue {
        index += 1
        var fields: [String: JSONValue] = [:]
        if skip("}") { return .object([:]) }
        repeat {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw fault("a key is due") }
            let key = try readText()
            guard fields[key] == nil else { throw fault("'\(key)' stands twice in one object") }
            try expect(":")
            fields[key] = try read()
        } while skip(",")
        try expect("}")
        return .object(fields)
    }

    private mutating func readNumber() throws(JSONFault) -> UInt64 {
        let first = index
        while let digit = next, Self.digits.contains(digit) { index += 1 }
        let digits = String(decoding: bytes[first..<index], as: UTF8.self)
        guard let number = UInt64(digits), digits == "\(number)" else {
            throw JSONFault(position: first, reason: "'\(digits)' is no number of 64 bits")
        }
        if let next, next == UInt8(ascii: ".") || next | 0x20 == UInt8(ascii: "e") {
            throw fault("a whole number is due")
        }
        return number
    }

    private mutating func readText() throws(JSONFault) -> String {
        let first = index
        index += 1
        var text: [UInt8] = []
        while let byte = next, byte != UInt8(ascii: "\"") {
            guard byte >= 0x20 else { throw fault("a control character in a string") }
            index += 1
            if byte == UInt8(ascii: "\\") {
                text += try readEscape()
            } else {
                text.append(byte)
            }
        }
        guard next != nil else { throw fault("") }
        index += 1
        guard let valid = String(validating: text, as: UTF8.self) else {
            throw JSONFault(position: first, reason: "a string that is no UTF-8")
        }
        return valid
    }

    /// What stands behind a backslash, as UTF-8.
    private mutating func readEscape() throws(JSONFault) -> [UInt8] {
        guard let byte = next else { throw fault("") }
        let plain: [Character: UInt8] = [
            "\"": 0x22, "\\": 0x5c, "/": 0x2f, "b": 0x08, "f": 0x0c, "n": 0x0a, "r": 0x0d,
            "t": 0x09,
        ]
        if let meant = plain[Character(UnicodeScalar(byte))] {
            index += 1
            return [meant]
        }
        guard byte == UInt8(ascii: "u") else { throw fault("no such escape") }
        var units = [try readUnit()]
        if UTF16.isLeadSurrogate(units[0]) {
            guard next == UInt8(ascii: "\\") else { throw fault("half a character") }
            index += 1
            units.append(try readUnit())
        }
        guard let text = String(validating: units, as: UTF16.self) else {
            throw fault("half a character")
        }
        return Array(text.utf8)
    }

    /// `u` and four digits.
    private mutating func readUnit() throws(JSONFault) -> UInt16 {
        guard next == UInt8(ascii: "u"), bytes.count - index >= 5 else {
            throw fault("no such escape")
        }
        let digits = bytes[index + 1..<index + 5]
        guard digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }),
            let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw fault("four hexadecimal digits are due") }
        index += 5
        return unit
    }

    private mutating func skipSpace() {
        while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { index += 1 }
    }

    private mutating func skip(_ character: UnicodeScalar) -> Bool {
        skipSpace()
        guard next == UInt8(ascii: character) else { return false }
        index += 1
        return true
    }

    private mutating func expect(_ character: UnicodeScalar) throws(JSONFault) {
        guard skip(character) else { throw fault("'\(character)' is due") }
    }
}
