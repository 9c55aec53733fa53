import Foundation

/// The repository that this test was compiled from.
enum Repository {
    static let top = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// Every text in it, read once: the rules look at each file in turn.
    static let files = Result { try readFiles() }

    static func names(in folder: String = "") throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: top.appending(path: folder).path)
    }

    /// Submodules, build products and version control are not the repository's own words.
    private static let passedOver: Set = [".git", ".build", ".swiftpm"]

    private static func readFiles() throws -> [SourceFile] {
        let own = try names().filter { !passedOver.contains($0) && !leftovers.contains($0) }
        var files: [SourceFile] = []
        for name in own.sorted() {
            let tree = FileManager.default.enumerator(atPath: top.appending(path: name).path)
            let paths =
                [name] + (tree?.compactMap { ($0 as? String).map { "\(name)/\($0)" } } ?? [])
            for path in paths.sorted() {
                // Captured bytes are not text and have nothing to say to a rule.
                let text = try? String(contentsOf: top.appending(path: path), encoding: .utf8)
                if let text { files.append(SourceFile(path, text)) }
            }
        }
        return files
    }
}

/// The names of the targets that `manifest` builds from `Sources`.
func sourceModules(inManifest manifest: String) -> [String] {
    let code = Array(CodeText.of(manifest, isSwift: true).utf8)
    let text = Array(manifest.utf8)
    let openings = [".target(", ".executableTarget("].map { Array($0.utf8) }
    var names: [String] = []
    var at = 0
    while at < code.count {
        guard let opening = openings.first(where: code[at...].starts(with:)) else {
            at += 1
            continue
        }
        let begin = at
        at += opening.count
        var depth = 1
        while depth > 0, at < code.count {
            if code[at] == UInt8(ascii: "(") { depth += 1 }
            if code[at] == UInt8(ascii: ")") { depth -= 1 }
            at += 1
        }
        let target = String(decoding: text[begin..<at], as: UTF8.self)
        let path = argument("path", of: target)
        if let name = argument("name", of: target), path?.hasPrefix("Sources/") ?? true {
            names.append(path.map { String($0.dropFirst("Sources/".count)) } ?? name)
        }
    }
    return names
}

private func argument(_ label: String, of call: String) -> String? {
    guard let place = call.firstRange(of: label + ": \"") else { return nil }
    return String(call[place.upperBound...].prefix { $0 != "\"" })
}
