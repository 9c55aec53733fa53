/// The state of one reading.
struct JSONReader {
    let bytes: [UInt8]
    private var index = 0
    private var depth = 0

    /// What is read here nests three deep; a text of brackets alone must not use up the stack.
    private static let depthMax = 16
    private static let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    private static let words: [(text: StaticString, value: JSONValue)] = [
        ("true", .truth(true)), ("false", .truth(false)), ("null", .null),
    ]

    init(bytes: [UInt8]) { self.bytes = bytes }

    mutating func readWhole() throws(JSONFault) -> JSONValue {
        let value = try read()
        skipSpace()
        guard index == bytes.count else { throw fault("the text goes on behind its end") }
        return value
    }

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private func fault(_ reason: String) -> JSONFault {
        let isEnd = next == nil
        return JSONFault(
            position: index, reason: isEnd ? "the text ends too early" : reason,
            isTruncated: isEnd)
    }

    /// A text that ends inside of what is to stand here.
    private func truncation() -> JSONFault {
        JSONFault(position: index, reason: "the text ends too early", isTruncated: true)
    }

    private mutating func read() throws(JSONFault) -> JSONValue {
        skipSpace()
        switch next {
        case UInt8(ascii: "\""): return .text(try readText())
        case let digit? where Self.digits.contains(digit) || digit == UInt8(ascii: "-"):
            return try readNumber()
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            guard depth < Self.depthMax else { throw fault("nested too deep") }
            depth += 1
            defer { depth -= 1 }
            return next == UInt8(ascii: "[") ? try readList() : try readObject()
        default: return try readWord()
        }
    }

    private mutating func readWord() throws(JSONFault) -> JSONValue {
        for word in Self.words {
            let name = Array("\(word.text)".utf8)
            let found = bytes[index...].prefix(name.count)
            if found.elementsEqual(name) {
                index += name.count
                return word.value
            }
            if !found.isEmpty, name.starts(with: found), found.endIndex == bytes.count {
                throw truncation()
            }
        }
        throw fault("neither a string, a number, a word of JSON, a list nor an object")
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

    private mutating func readNumber() throws(JSONFault) -> JSONValue {
        let first = index
        let isNegative = skipByte("-")
        let whole = try readDigits()
        guard whole.count == 1 || whole.first != UInt8(ascii: "0") else {
            throw JSONFault(
                position: first, reason: "a number that begins with 0", isTruncated: false)
        }
        var isWhole = !isNegative
        if skipByte(".") {
            isWhole = false
            _ = try readDigits()
        }
        if skipByte("e") || skipByte("E") {
            isWhole = false
            if !skipByte("+") { _ = skipByte("-") }
            _ = try readDigits()
        }
        let text = String(decoding: bytes[first..<index], as: UTF8.self)
        guard isWhole, let number = UInt64(text) else { return .otherNumber(text) }
        return .number(number)
    }

    /// At least one.
    private mutating func readDigits() throws(JSONFault) -> ArraySlice<UInt8> {
        let first = index
        while let digit = next, Self.digits.contains(digit) { index += 1 }
        guard index > first else { throw fault("a digit is due") }
        return bytes[first..<index]
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
            throw JSONFault(
                position: first, reason: "a string that is no UTF-8", isTruncated: false)
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
        guard next == UInt8(ascii: "u") else { throw fault("no such escape") }
        let digits = bytes[(index + 1)...].prefix(4)
        guard digits.allSatisfy({ Character(UnicodeScalar($0)).isHexDigit }) else {
            throw fault("four hexadecimal digits are due")
        }
        guard digits.count == 4,
            let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw truncation() }
        index += 5
        return unit
    }

    private mutating func skipSpace() {
        while let byte = next, [0x20, 0x09, 0x0a, 0x0d].contains(byte) { index += 1 }
    }

    private mutating func skip(_ character: UnicodeScalar) -> Bool {
        skipSpace()
        return skipByte(character)
    }

    private mutating func skipByte(_ character: UnicodeScalar) -> Bool {
        guard next == UInt8(ascii: character) else { return false }
        index += 1
        return true
    }

    private mutating func expect(_ character: UnicodeScalar) throws(JSONFault) {
        guard skip(character) else { throw fault("'\(character)' is due") }
    }
}
