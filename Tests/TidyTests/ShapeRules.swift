/// Limits of size and where things stand. The numbers are the house's; a file over the limit has
/// two subjects, and a shim over it has begun to decide things.
let fileLinesMax = 400
let shimLinesMax = 24

/// Names that the top level may hold, besides dotfiles: one screen, each with a known purpose.
let topLevelNames: Set = [
    "Package.swift", "Sources", "CShims", "Tests", "README.md", "examples", "Makefile", "LICENSE",
]

/// What building and measuring leave behind; `.gitignore` names them too.
let leftovers: Set = ["Package.resolved", "bench.json"]

func strangers(inTopLevel names: [String]) -> [String] {
    names.filter { name in
        !topLevelNames.contains(name) && !leftovers.contains(name) && !name.hasPrefix(".")
            && !name.hasSuffix(".profraw")
    }
}

private let vagueEndings = ["Manager", "Helper", "Helpers", "Util", "Utils"]
private let typeKeywords: Set = ["struct", "class", "enum", "actor", "protocol", "typealias"]

let shapeRules = [
    Rule(
        law: "C stands in CShims and in examples only",
        refuses: [SourceFile("Sources/LinuxKernel/a.c", ""), SourceFile("Tests/a.h", "")],
        accepts: [SourceFile("CShims/a.c", ""), SourceFile("examples/embed/a.h", "")]
    ) { file in
        guard file.isC, !file.isIn("CShims", "examples") else { return [] }
        return [Violation(path: file.path, line: 1, what: "C outside CShims and examples")]
    },
    Rule(
        law: "no Swift or C file is longer than \(fileLinesMax) lines",
        refuses: [
            SourceFile("Sources/Postcopy/A.swift", String(repeating: "\n", count: 401)),
            SourceFile("CShims/a.c", String(repeating: "\n", count: 400) + "int a;"),
        ],
        accepts: [
            SourceFile("Sources/Postcopy/A.swift", String(repeating: "\n", count: 400)),
            SourceFile("README.md", String(repeating: "\n", count: 401)),
        ]
    ) { file in
        guard file.isSwift || file.isC else { return [] }
        let breaks = file.text.utf8.count { $0 == UInt8(ascii: "\n") }
        let lines = file.text.isEmpty || file.text.hasSuffix("\n") ? breaks : breaks + 1
        guard lines > fileLinesMax else { return [] }
        return [Violation(path: file.path, line: lines, what: "\(lines) lines")]
    },
    Rule(
        law: "a shim is under \(shimLinesMax + 1) lines",
        refuses: [
            SourceFile("CShims/a.c", cFunction(lines: 25)),
            SourceFile("CShims/a.c", "struct a { int b; };\n" + cFunction(lines: 25)),
            SourceFile("CShims/a.c", "#define A {\n// {\n" + cFunction(lines: 25)),
        ],
        accepts: [
            SourceFile("CShims/a.c", cFunction(lines: 24) + cFunction(lines: 24)),
            SourceFile("CShims/a.c", "int a[] = {" + String(repeating: "\n", count: 30) + "};"),
        ]
    ) { file in
        guard file.isIn("CShims"), file.path.hasSuffix(".c") else { return [] }
        return cFunctions(in: file.code).filter { $0.lines > shimLinesMax }.map {
            Violation(path: file.path, line: $0.firstLine, what: "\($0.name): \($0.lines) lines")
        }
    },
    Rule(
        law: "a type is named for what it is",
        refuses: [
            "struct PageManager {}", "final class TestHelper {}", "enum StringUtils {}",
            "public protocol RingUtil: AnyObject {}", "typealias A = Int; actor BHelpers {}",
        ].map { SourceFile("Sources/Postcopy/A.swift", $0) },
        accepts: [
            "struct Managers {}", "// struct PageManager", "let helper = Helped()",
            "func use(_ manager: PageManager)",
        ].map { SourceFile("Tests/A.swift", $0) }
    ) { file in
        guard file.isSwift else { return [] }
        return file.violations(in: file.code) { line in
            let words = line.words
            return zip(words, words.dropFirst()).first { keyword, name in
                typeKeywords.contains(keyword) && vagueEndings.contains { name.hasSuffix($0) }
            }?.1
        }
    },
    Rule(
        law: "a test expects something that can be false",
        refuses: ["#expect(true)", "try #require( true, \"why\")", "#expect(Bool(true))"].map {
            SourceFile("Tests/A.swift", $0)
        },
        accepts: ["#expect(trueCount == 1)", "// #expect(true)", "#expect(a == true)"].map {
            SourceFile("Tests/A.swift", $0)
        }
    ) { file in
        guard file.isSwift else { return [] }
        return file.violations(in: file.code) { line in
            let squeezed = line.filter { !$0.isWhitespace }
            return ["expect", "require"].first { macro in
                ["(true)", "(true,", "(Bool(true)"].contains { squeezed.contains("#\(macro)\($0)") }
            }
        }
    },
    Rule(
        law: "a test waits for what it needs, with a deadline, and never for time to pass",
        refuses: [
            "sleep(1)", "_ = Glibc.usleep (10)", "try await Task.sleep(for: .seconds(1))",
            "try await Task.sleep(\n    for: .seconds(1))", "nanosleep(&a, nil)",
            "Monotonic.sleep(1)",
        ].map { SourceFile("Tests/KernelTests/A.swift", $0) },
        accepts: [
            SourceFile("Tests/KernelTests/A.swift", "// sleep(1)\nlet sleeper = asleep(1)"),
            SourceFile("Sources/LinuxKernel/A.swift", "Monotonic.sleep(1)"),
        ]
    ) { file in
        guard file.isSwift, file.isIn("Tests") else { return [] }
        return file.violations(in: file.code) { line in
            ["sleep", "usleep", "nanosleep"].first(where: line.calls)
        }
    },
]

/// A C function that is `lines` long, from its signature to its brace.
private func cFunction(lines: Int) -> String {
    "int a(\n    int b)\n{\n" + String(repeating: "    b++; // }\n", count: lines - 4) + "}\n"
}
