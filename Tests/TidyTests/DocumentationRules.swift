/// The modules whose names an embedder sees by `import Postcopy`.
let embeddedModules: Set = [
    "Postcopy", "PostcopyRuntime", "MigrationCore", "LinuxKernel", "PageModel", "FaultHandling",
]

/// What carries the documentation of the protocol that it is a part of.
private let inheriting: Set = [
    "description", "rawValue", "<",
    // DirtyTracker
    "check", "start", "sync", "clear", "forget", "stop",
    // Guest
    "streamIdentity", "memoryArrived", "memoryLost", "throttle",
]

private let declarations: Set = [
    "struct", "class", "enum", "protocol", "typealias", "func", "let", "var", "init", "subscript",
]

/// The name that a line of code declares for everybody; `nil` for any other line.
private func publicName(in line: Substring) -> String? {
    let words = line.words
    guard let access = words.firstIndex(of: "public"), !words.contains("import"),
        let keyword = words[access...].firstIndex(where: declarations.contains)
    else { return nil }
    if words[keyword] == "init" || words[keyword] == "subscript" {
        return words.contains("rawValue") ? "rawValue" : words[keyword]
    }
    if words[keyword] == "func", line.contains("func <") { return "<" }
    return keyword + 1 < words.count ? words[keyword + 1] : words[keyword]
}

/// Lines that stand directly inside a public enumeration.
private func linesOfPublicEnumerations(in lines: [Substring]) -> Set<Int> {
    var scopes: [Bool] = []
    var header = ""
    var found: Set<Int> = []
    for (index, line) in lines.enumerated() {
        if scopes.last == true { found.insert(index) }
        for character in line {
            switch character {
            case "{":
                let words = header.words
                scopes.append(words.contains("public") && words.contains("enum"))
                header = ""
            case "}":
                _ = scopes.popLast()
                header = ""
            default: header.append(character)
            }
        }
        // Modifiers and attributes stand on the line of their declaration, or on the one before.
        if !line.contains("enum"), !line.hasSuffix(":"), !line.hasSuffix(",") { header = "" }
    }
    return found
}

let documentationRules = [
    Rule(
        law: "whatever an embedder sees is documented",
        refuses: [
            "public struct A {}", "    public let a = 1", "\npublic func a() {}",
            "// no documentation\npublic var a = 1", "@inlinable\npublic func a() {}",
            "/// A.\npublic enum A {\n    case a\n}",
            "/// A.\npublic enum A: Int, Sendable {\n    /// A.\n    case a\n    case b(Int)\n}",
        ].map { SourceFile("Sources/Postcopy/A.swift", $0) },
        accepts: [
            "/// A.\npublic struct A {}", "/// A.\n@safe\npublic final class A {}",
            "public import PageModel", "public extension A {}", "let a = 1",
            "public var description: String { \"\" }", "public static func < (a: A, b: A) {}",
            "enum A {\n    case a\n}",
            "/// A.\npublic enum A {\n    /// B.\n    case b\n    var c: Int {\n"
                + "        switch self {\n        case .b: 1\n        }\n    }\n}",
        ].map { SourceFile("Sources/Postcopy/A.swift", $0) }
            + [SourceFile("Sources/Parking/A.swift", "public struct A {}")]
    ) { file in
        guard file.isSwift, let module = file.module, embeddedModules.contains(module) else {
            return []
        }
        let code = file.code.split(separator: "\n", omittingEmptySubsequences: false)
        let text = file.text.split(separator: "\n", omittingEmptySubsequences: false)
        let cases = linesOfPublicEnumerations(in: code)
        return code.indices.compactMap { index in
            let isCase = cases.contains(index) && code[index].words.first == "case"
            guard
                let name = isCase
                    ? code[index].words.dropFirst().first : publicName(in: code[index]),
                isCase || !inheriting.contains(name)
            else { return nil }
            var above = index - 1
            while above >= 0, code[above].words.first != nil, code[above].contains("@"),
                !text[above].contains("///")
            {
                above -= 1
            }
            let isDocumented =
                above >= 0 && text[above].drop { $0 == " " }.hasPrefix("///")
            return isDocumented
                ? nil
                : Violation(path: file.path, line: index + 1, what: "\(name) is not documented")
        }
    }
]
