import Foundation
import Testing

private let rules = importRules + textRules + shapeRules + documentationRules

/// Reads the repository's own sources and holds them to the rules of the house.
@Suite("tidy")
struct TidyTests {
    @Test("every file keeps the rule", arguments: rules)
    func everyFile(rule: Rule) throws {
        let violations = try Repository.files.get().flatMap(rule.check)
        #expect(violations.isEmpty, "\(violations.map(\.description).joined(separator: "\n"))")
    }

    @Test("the rule refuses each of its bad samples, in the right file", arguments: rules)
    func refusal(rule: Rule) {
        #expect(!rule.refuses.isEmpty)
        for sample in rule.refuses {
            let violations = rule.check(sample)
            #expect(violations.first?.path == sample.path, "accepted: \(sample.text)")
        }
    }

    @Test("the rule accepts each of its good samples", arguments: rules)
    func acceptance(rule: Rule) {
        #expect(!rule.accepts.isEmpty)
        for sample in rule.accepts {
            #expect(rule.check(sample) == [], "refused: \(sample.text)")
        }
    }

    @Test("the files of the repository were found")
    func found() throws {
        let paths = Set(try Repository.files.get().map(\.path))
        let expected: Set = ["Package.swift", "Makefile", "LICENSE", ".ci/run", ".swift-format"]
        #expect(expected.subtracting(paths) == [])
        #expect(paths.contains { $0.hasPrefix("Sources/PageModel/") })
        #expect(paths.contains { $0.hasPrefix("Tests/TidyTests/") })
        #expect(!paths.contains { $0.hasPrefix(".build/") || $0.hasPrefix(".git/") })
    }

    @Test("every module is in the table of modules, once")
    func moduleTable() throws {
        let known = modules.map(\.name)
        #expect(Set(known).count == known.count)
        #expect(Set(try Repository.names(in: "Sources")).subtracting(known) == [])
        let manifest = try Repository.files.get().first { $0.path == "Package.swift" }
        let built = sourceModules(inManifest: try #require(manifest).text)
        #expect(!built.isEmpty)
        #expect(Set(built).subtracting(known) == [])
    }

    @Test("the modules of the table cannot import each other in a circle")
    func acyclic() {
        #expect(modulesInCircle(of: modules) == [])
        let sample = [("A", "B"), ("B", "C"), ("C", "B"), ("D", "Glibc")].map {
            Module(name: $0, imports: [$1], reason: "")
        }
        #expect(modulesInCircle(of: sample) == ["A", "B", "C"])
    }

    @Test("the manifest's targets are read, but for those that stand outside Sources")
    func manifest() {
        let text = """
            // .target(name: "Commented"),
            .target(name: "One", dependencies: [.target(name: "Inner")], swiftSettings: house),
            .executableTarget(
                name: "two", dependencies: [.product(name: "P", package: "p")]),
            .target(name: "moved", path: "Sources/Three"),
            .target(name: "CShims", path: "CShims"), .testTarget(name: "OneTests"),
            """
        #expect(sourceModules(inManifest: text) == ["One", "two", "Three"])
    }

    @Test("the tutorial shows every file of its example, as it is")
    func tutorial() throws {
        let files = try Repository.files.get()
        func texts(in folder: String) -> [String: String] {
            let found = files.filter { $0.isSwift && $0.path.hasPrefix(folder) }
            return Dictionary(
                uniqueKeysWithValues: found.map {
                    (String($0.path.dropFirst(folder.count)), $0.text)
                })
        }
        let example = texts(in: "examples/tutorial/")
        #expect(example.count > 3)
        #expect(texts(in: "Sources/Postcopy/Postcopy.docc/Resources/") == example)
        let steps = files.filter { $0.path.hasSuffix(".tutorial") }.map(\.text).joined()
        for name in example.keys { #expect(steps.contains("file: \"\(name)\""), "\(name)") }
    }

    @Test("the top level holds what its reader expects")
    func topLevel() throws {
        #expect(strangers(inTopLevel: try Repository.names()) == [])
        let sample = [
            "Package.swift", ".ci", "bench.json", "scripts", "notes.md", "default.profraw",
        ]
        #expect(strangers(inTopLevel: sample) == ["scripts", "notes.md"])
    }
}

/// The scanners that the rules stand on.
@Suite("tidy scanners")
struct ScannerTests {
    @Test(
        "comments and strings go, code and line breaks stay",
        arguments: [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("a \"b // c\" d", "a          d"),
            ("a \"\\\"\" b", "a      b"),
            ("a #\"\\\"# b", "a       b"),
            ("a \"b\\(c(\"d\"))e\" f", "a     c(   ))   f"),
            ("a \"\"\"\n\" b\n\"\"\" c", "a    \n   \n    c"),
            ("a `b \"` c", "a       c"),
            ("a `default` c", "a `default` c"),
            ("a \"b", "a   "),
            ("#if a", "#if a"),
        ])
    func swiftCode(text: String, code: String) {
        #expect(CodeText.of(text, isSwift: true) == code)
    }

    @Test(
        "C has characters and no nesting",
        arguments: [("'\"' a", "    a"), ("/* /* */ a", "         a")])
    func cCode(text: String, code: String) {
        #expect(CodeText.of(text, isSwift: false) == code)
    }

    @Test("C functions are found with their names and lengths")
    func functions() {
        let code = """
            struct a { int b; };
            int declared(int a);
            #define LOOP(x) \\
                do { x; } while (0)
            static int one(void)
            {
                if (1) { return 2; }
                return 0;
            }
            int table[] = { 1, 2 };
            int two(int a) { return a; }
            """
        #expect(
            cFunctions(in: code) == [
                CFunction(name: "one", firstLine: 5, lines: 5),
                CFunction(name: "two", firstLine: 11, lines: 1),
            ])
    }
}
