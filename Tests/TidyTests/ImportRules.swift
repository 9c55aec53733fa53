/// What a module is for and what it may import. SwiftPM does not enforce this: an undeclared import
/// of a module that is built anyway compiles.
struct Module: Sendable {
    let name: String
    let imports: Set<String>
    let reason: String
}

/// The import graph of `Sources`. A new module needs a row here before it compiles for long.
let modules = [
    Module(
        name: "PageModel", imports: ["Synchronization"],
        reason: "says what a page is, to every other module, and so depends on none"),
    Module(
        name: "PlainJSON", imports: [],
        reason: "reads JSON where Foundation must not come along, and knows nothing of its use"),
    Module(
        name: "StreamWire", imports: ["PageModel"],
        reason: "turns bytes into messages and back, without knowing where bytes come from"),
    Module(
        name: "MigrationCore", imports: ["PageModel", "StreamWire", "Histogram"],
        reason: "decides; a core that cannot reach the kernel can be simulated"),
    Module(
        name: "FlightRecorder", imports: ["MigrationCore", "PageModel", "Histogram"],
        reason: "keeps and explains what was recorded of faults; a report needs no kernel for it"),
    Module(
        name: "LinuxKernel", imports: ["CShims", "Glibc", "PageModel", "Synchronization"],
        reason: "owns descriptors, mappings and threads, and knows nothing of migration"),
    Module(
        name: "PostcopyRuntime",
        imports: [
            "MigrationCore", "FlightRecorder", "StreamWire", "PageModel", "LinuxKernel",
            "Synchronization", "Histogram",
        ],
        reason: "joins what decides to what acts; it calls the kernel through LinuxKernel only"),
    Module(
        name: "FaultHandling",
        imports: ["LinuxKernel", "MigrationCore", "PageModel", "PlainJSON", "Synchronization"],
        reason: "serves missing pages without a migration, and needs none of its protocol"),
    Module(
        name: "Postcopy",
        imports: [
            "PostcopyRuntime", "FaultHandling", "FlightRecorder", "MigrationCore", "LinuxKernel",
            "PageModel", "Synchronization", "CoreMetrics",
        ],
        reason: "the embedder's API, which must not drag Foundation into a VMM"),
    Module(
        name: "VhostUser", imports: ["PostcopyRuntime", "LinuxKernel", "PageModel"],
        reason: "takes other programs' devices through a migration; a VMM may have its own"),
    Module(
        name: "PostcopyC",
        imports: ["CPostcopy", "Postcopy", "Glibc", "Synchronization"],
        reason: "says in C what Postcopy offers, and offers nothing of its own"),
    Module(
        name: "TestWorkload",
        imports: ["Postcopy", "StreamWire", "LinuxKernel", "PageModel", "Synchronization"],
        reason: "a guest made of threads, with a device whose state is a section of the stream"),
    Module(
        name: "Parking",
        imports: [
            "Postcopy", "StreamWire", "LinuxKernel", "PageModel", "PlainJSON", "Synchronization",
        ],
        reason: "keeps another program's guest, which a VMM may want too: no Foundation"),
    Module(
        name: "PostcopyCommand",
        imports: [
            "Postcopy", "TestWorkload", "Parking", "StreamWire", "PlainJSON", "ArgumentParser",
            "Foundation", "Synchronization", "Glibc", "CoreMetrics",
        ],
        reason: "a terminal's view of Postcopy; the one place where Foundation costs nobody"),
]

/// The modules that import each other in a circle, and those above them.
func modulesInCircle(of modules: [Module]) -> [String] {
    var waiting = modules
    while let next = waiting.firstIndex(where: { module in
        module.imports.isDisjoint(with: waiting.map(\.name))
    }) {
        waiting.remove(at: next)
    }
    return waiting.map(\.name)
}

/// The modules that a line of code imports, whatever stands before the word `import`.
func imports(in line: Substring) -> [String] {
    let modifiers: Set = ["public", "package", "internal", "fileprivate", "private", "open"]
    let kinds: Set = [
        "struct", "class", "enum", "protocol", "typealias", "func", "let", "var", "actor", "macro",
    ]
    return line.split(separator: ";").compactMap { statement in
        var words = statement.split(whereSeparator: \.isWhitespace).map(String.init)[...]
        while let first = words.first, first.hasPrefix("@") || modifiers.contains(first) {
            words.removeFirst()
        }
        guard words.popFirst() == "import", var target = words.popFirst() else { return nil }
        if kinds.contains(target), let next = words.popFirst() { target = next }
        return target.split(separator: ".").first.map { $0.filter(\.isWord) }
    }
}

let importRules = [
    Rule(
        law: "a module imports only what its row allows",
        refuses: [
            "import LinuxKernel", "public import Glibc", "@testable import Postcopy",
            "@_exported public import CShims", "@_spi(Tests) internal import Foundation",
            "import struct Foundation.Data", "@testable\nimport Postcopy",
            "let a = 1; import Glibc",
            "#if os(Linux)\n    import Glibc\n#endif", "/* why */ import Glibc",
        ].map { SourceFile("Sources/StreamWire/A.swift", $0) }
            + [SourceFile("Sources/Unheard/A.swift", "import PageModel")],
        accepts: [
            "import PageModel", "public import PageModel", "// import Glibc",
            "let text = \"\"\"\n    import Glibc\n    \"\"\"", "let important = 1",
        ].map { SourceFile("Sources/StreamWire/A.swift", $0) }
    ) { file in
        guard file.isSwift, let name = file.module else { return [] }
        let module = modules.first { $0.name == name }
        return file.violations(in: file.code) { line in
            let foreign = imports(in: line).filter { module?.imports.contains($0) != true }
            guard let first = foreign.first else { return nil }
            guard let module else { return "\(name) has no row in the table of modules" }
            return "\(name) may not import \(first): it \(module.reason)"
        }
    },
    Rule(
        law: "only the command imports Foundation, whatever the table says",
        refuses: [
            SourceFile("Sources/Postcopy/A.swift", "import Foundation"),
            SourceFile("Sources/PageModel/A.swift", "public import FoundationEssentials"),
        ],
        accepts: [
            SourceFile("Sources/PostcopyCommand/A.swift", "import Foundation"),
            SourceFile("Tests/TidyTests/A.swift", "import Foundation"),
        ]
    ) { file in
        guard file.isSwift, let module = file.module, module != "PostcopyCommand" else { return [] }
        return file.violations(in: file.code) { line in
            imports(in: line).contains { $0.hasPrefix("Foundation") } ? "imports Foundation" : nil
        }
    },
    Rule(
        law: "the simulator drives the core on virtual time: no kernel, thread or clock",
        refuses: [
            "import LinuxKernel", "import PostcopyRuntime", "import Glibc", "import Foundation",
        ].map { SourceFile("Tests/Simulation/A.swift", $0) },
        accepts: [
            SourceFile("Tests/Simulation/A.swift", "import MigrationCore"),
            SourceFile("Tests/Simulate/A.swift", "import Glibc"),
        ]
    ) { file in
        guard file.isSwift, file.isIn("Tests/Simulation") else { return [] }
        let allowed: Set = [
            "MigrationCore", "StreamWire", "PageModel", "TestSupport", "Synchronization",
        ]
        return file.violations(in: file.code) { line in
            imports(in: line).first { !allowed.contains($0) }.map { "imports \($0)" }
        }
    },
    Rule(
        law: "tests are Swift Testing's: `make test` does not run XCTest and would lose them",
        refuses: [SourceFile("Tests/StreamWireTests/A.swift", "import XCTest")],
        accepts: [SourceFile("Tests/StreamWireTests/A.swift", "import Testing")]
    ) { file in
        guard file.isSwift else { return [] }
        return file.violations(in: file.code) { line in
            imports(in: line).contains("XCTest") ? "imports XCTest" : nil
        }
    },
]
