/// A source text with its comments and string literals blanked out, so that a rule about code
/// cannot be tripped by prose, nor by the bad samples that the rules of this target carry.
///
/// Line breaks stay, so a line number means the same in both texts. Code inside a Swift
/// interpolation stays too. Regex literals are not understood: the house does without them.
struct CodeText {
    private let bytes: [UInt8]
    private var output: [UInt8]
    private var at = 0
    private let isSwift: Bool

    static func of(_ text: String, isSwift: Bool) -> String {
        var scanner = CodeText(text, isSwift: isSwift)
        scanner.scanCode(untilParenthesisCloses: false)
        return String(decoding: scanner.output, as: UTF8.self)
    }

    private init(_ text: String, isSwift: Bool) {
        bytes = Array(text.utf8)
        output = bytes
        self.isSwift = isSwift
    }

    private func starts(with text: StaticString, at index: Int) -> Bool {
        bytes[min(index, bytes.count)...].starts(with: text.description.utf8)
    }

    private mutating func blank(_ count: Int) {
        for index in at..<min(at + count, bytes.count) where bytes[index] != UInt8(ascii: "\n") {
            output[index] = UInt8(ascii: " ")
        }
        at = min(at + count, bytes.count)
    }

    private mutating func scanCode(untilParenthesisCloses: Bool) {
        var depth = 1
        while at < bytes.count {
            if starts(with: "//", at: at) {
                while at < bytes.count, bytes[at] != UInt8(ascii: "\n") { blank(1) }
            } else if starts(with: "/*", at: at) {
                blankComment()
            } else if let hashes = hashesBeforeQuote() {
                blankString(hashes: hashes)
            } else if !isSwift, bytes[at] == UInt8(ascii: "'") {
                blankQuoted(by: UInt8(ascii: "'"))
            } else if isSwift, bytes[at] == UInt8(ascii: "`") {
                blankRawIdentifier()
            } else {
                if bytes[at] == UInt8(ascii: "(") { depth += 1 }
                if bytes[at] == UInt8(ascii: ")") { depth -= 1 }
                at += 1
                if untilParenthesisCloses, depth == 0 { return }
            }
        }
    }

    /// Swift's block comments nest and C's do not.
    private mutating func blankComment() {
        var depth = 0
        repeat {
            if starts(with: "/*", at: at), isSwift || depth == 0 {
                depth += 1
                blank(2)
            } else if starts(with: "*/", at: at) {
                depth -= 1
                blank(2)
            } else {
                blank(1)
            }
        } while depth > 0 && at < bytes.count
    }

    /// How many `#` stand before the quote that begins here; `nil` when no string begins here.
    private func hashesBeforeQuote() -> Int? {
        var index = at
        while isSwift, index < bytes.count, bytes[index] == UInt8(ascii: "#") { index += 1 }
        return index < bytes.count && bytes[index] == UInt8(ascii: "\"") ? index - at : nil
    }

    private mutating func blankString(hashes: Int) {
        let hash = [UInt8](repeating: UInt8(ascii: "#"), count: hashes)
        let isLong = isSwift && starts(with: "\"\"\"", at: at + hashes)
        let quotes = [UInt8](repeating: UInt8(ascii: "\""), count: isLong ? 3 : 1)
        let escape = [UInt8(ascii: "\\")] + hash
        blank(hashes + quotes.count)
        while at < bytes.count {
            if bytes[at...].starts(with: quotes + hash) {
                return blank(quotes.count + hashes)
            } else if bytes[at...].starts(with: escape) {
                blank(escape.count)
                let interpolates = isSwift && starts(with: "(", at: at)
                blank(1)
                if interpolates { scanCode(untilParenthesisCloses: true) }
            } else if !isLong, bytes[at] == UInt8(ascii: "\n") {
                return
            } else {
                blank(1)
            }
        }
    }

    private mutating func blankQuoted(by quote: UInt8) {
        blank(1)
        while at < bytes.count, bytes[at] != quote, bytes[at] != UInt8(ascii: "\n") {
            blank(bytes[at] == UInt8(ascii: "\\") ? 2 : 1)
        }
        blank(1)
    }

    /// A name in backquotes stays when it is an ordinary one (`` `default` ``), and goes when it is
    /// a sentence, which may hold quotes.
    private mutating func blankRawIdentifier() {
        let rest = bytes[(at + 1)...]
        guard let end = rest.firstIndex(of: UInt8(ascii: "`")) else { return blank(1) }
        let isOrdinary = bytes[(at + 1)..<end].allSatisfy { Character(UnicodeScalar($0)).isWord }
        if isOrdinary { at = end + 1 } else { blank(end + 1 - at) }
    }
}

extension Character {
    /// Whether it can stand inside an identifier.
    var isWord: Bool { isLetter || isNumber || self == "_" }
}
