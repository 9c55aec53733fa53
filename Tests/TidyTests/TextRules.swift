/// The places where memory is touched by address. Everything else is checked by the compiler, and
/// that is worth saying only while this list is short.
let unsafePlaces = [
    "Sources/LinuxKernel/",
    "Sources/PostcopyC/",
    "Sources/PageModel/AtomicWords.swift",
    "Sources/StreamWire/Span+BigEndian.swift",
]

/// Hosts that a text may point to: homes of specifications, of the kernel and of dependencies.
/// A mirror, a proxy or a registry of one machine must never get into the repository.
let citableHosts: Set = [
    "github.com", "gitlab.com", "www.apache.org", "www.swift.org", "swift.org", "docs.swift.org",
    "www.kernel.org", "docs.kernel.org", "git.kernel.org", "lore.kernel.org", "lwn.net",
    "man7.org", "www.qemu.org", "qemu.org", "patchew.org", "doi.org", "www.usenix.org",
    "www.w3.org",
]

/// Written in pieces, so that the rule can be applied to this file as well.
private let markers: Set = ["TO" + "DO", "FIX" + "ME", "X" + "XX"]
private let machineFolders = ["wo" + "rk", "ro" + "ot", "ho" + "me"].map { "/" + $0 + "/" }
private let scheme = ":" + "//"
private let unchecked = "-O" + "unchecked"

private func hosts(in line: Substring) -> [String] {
    line.split(separator: "http").dropFirst().compactMap { rest in
        let tail = rest.hasPrefix("s") ? rest.dropFirst() : rest
        guard tail.hasPrefix(scheme) else { return nil }
        return String(tail.dropFirst(3).prefix { $0.isWord || $0 == "." || $0 == "-" })
    }
}

private func namesMachineFolder(_ line: Substring) -> Bool {
    machineFolders.contains { folder in
        line.ranges(of: folder).contains { place in
            guard let before = line[..<place.lowerBound].last else { return true }
            return !before.isWord && !"./-".contains(before)
        }
    }
}

let textRules = [
    Rule(
        law: "`unsafe` occurs only where memory is owned",
        refuses: [
            SourceFile("Sources/PageModel/A.swift", "let a = unsafe pointer.pointee"),
            SourceFile("Sources/Postcopy/A.swift", "nonisolated(unsafe) var a = 1"),
            SourceFile("Sources/Postcopy/A.swift", "let a = \"\\(unsafe pointer.pointee)\""),
        ],
        accepts: [
            SourceFile("Sources/PageModel/A.swift", "// unsafe\nlet a = \"unsafe\", unsafely = 1"),
            SourceFile("Sources/LinuxKernel/A.swift", "let a = unsafe pointer.pointee"),
            SourceFile("Sources/PageModel/AtomicWords.swift", "unsafe pointer.pointee = 1"),
        ]
    ) { file in
        guard file.isSwift, file.isIn("Sources") else { return [] }
        if unsafePlaces.contains(where: file.path.hasPrefix) { return [] }
        return file.violations(in: file.code) { $0.words.contains("unsafe") ? "unsafe" : nil }
    },
    Rule(
        law: "no marker stands for work not done",
        refuses: markers.map { SourceFile("Sources/Postcopy/A.swift", "// \($0): later") },
        accepts: [SourceFile("Sources/Postcopy/A.swift", "let template = \"XXXXXX\"")]
    ) { file in
        file.violations(in: file.text) { line in
            line.words.first(where: markers.contains).map { "marker \($0)" }
        }
    },
    Rule(
        law: "no build removes checks or hides flags from a dependent",
        refuses: [
            SourceFile("Package.swift", "let a = [.unsafeFlags([])]"),
            SourceFile("Package.swift", "let a = [\"\(unchecked)\"]"),
            SourceFile("Makefile", "swift build -Xswiftc \(unchecked)"),
        ],
        accepts: [SourceFile("README.md", "Never \(unchecked).")]
    ) { file in
        guard file.path == "Package.swift" || file.path == "Makefile" || file.isIn(".ci") else {
            return []
        }
        return file.violations(in: file.text) { line in
            let banned = [unchecked, "unsafe" + "Flags"]
            return banned.first { line.contains($0) }
        }
    },
    Rule(
        law: "no text knows the machine it was written on",
        refuses: machineFolders.map { SourceFile("Tests/A.swift", "let a = \"\($0)a\"") }
            + [
                SourceFile("Makefile", "cd\t/" + "work/main"),
                SourceFile("Package.swift", "url: \"https\(scheme)registry.example/a\""),
                SourceFile(".ci/run", "curl http\(scheme)10.0.0.1:8080/a"),
            ],
        accepts: [
            SourceFile("README.md", "examples/work/a https\(scheme)github.com/apple/a /sys/kernel"),
            SourceFile("README.md", "http and https alone"),
        ]
    ) { file in
        file.violations(in: file.text) { line in
            if namesMachineFolder(line) { return "a folder of one machine" }
            let foreign = hosts(in: line).first { !citableHosts.contains($0) }
            return foreign.map { "\($0) is not in the table of hosts" }
        }
    },
]
