/// One text of the repository, as the rules see it.
struct SourceFile: Sendable {
    /// From the repository's top, with `/` between the parts.
    let path: String
    let text: String
    /// `text` without comments and strings; the same as `text` for what is neither Swift nor C.
    let code: String

    init(_ path: String, _ text: String) {
        self.path = path
        self.text = text
        code =
            Self.isSwift(path) || Self.isC(path)
            ? CodeText.of(text, isSwift: Self.isSwift(path)) : text
    }

    var isSwift: Bool { Self.isSwift(path) }
    var isC: Bool { Self.isC(path) }

    private static func isSwift(_ path: String) -> Bool { path.hasSuffix(".swift") }

    private static func isC(_ path: String) -> Bool {
        [".c", ".h", ".cc", ".cpp", ".hpp", ".S"].contains { path.hasSuffix($0) }
    }

    /// The module a file of `Sources` belongs to. What a documentation catalogue shows is compiled
    /// elsewhere.
    var module: String? {
        guard !path.contains(".docc/") else { return nil }
        let parts = path.split(separator: "/")
        return parts.count > 2 && parts[0] == "Sources" ? String(parts[1]) : nil
    }

    func isIn(_ folders: String...) -> Bool {
        folders.contains { path.hasPrefix($0 + "/") }
    }

    /// One violation for each line of `text` that `complaint` has something to say about.
    func violations(in text: String, _ complaint: (Substring) -> String?) -> [Violation] {
        text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().compactMap {
            (index, line) in
            complaint(line).map { Violation(path: path, line: index + 1, what: $0) }
        }
    }
}

struct Violation: Equatable, Sendable, CustomStringConvertible {
    let path: String
    let line: Int
    let what: String

    var description: String { "\(path):\(line): \(what)" }
}

/// A pure judgement of one file. It carries samples that it must refuse and must accept, so that a
/// rule which can no longer fail is itself a failing test.
struct Rule: Sendable, CustomStringConvertible {
    let law: String
    let refuses: [SourceFile]
    let accepts: [SourceFile]
    let check: @Sendable (SourceFile) -> [Violation]

    var description: String { law }
}

extension StringProtocol {
    /// The identifiers of a line, keywords included.
    var words: [String] { String(self).split { !$0.isWord }.map(String.init) }

    /// Whether `word(` occurs, with or without a space between.
    func calls(_ word: String) -> Bool {
        let squeezed = filter { !$0.isWhitespace }
        var rest = squeezed[...]
        while let place = rest.firstRange(of: word + "(") {
            let before = squeezed[..<place.lowerBound].last
            if before.map({ !$0.isWord }) ?? true { return true }
            rest = rest[place.upperBound...]
        }
        return false
    }
}
