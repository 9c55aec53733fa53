import Foundation
import Testing

/// The C library, installed below a folder of its own that has nothing to do with the repository.
final class InstalledLibrary: Sendable {
    let prefix: URL
    let shell: Shell

    /// The repository that this test was compiled from.
    static let repository = URL(filePath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    static let isBuilt = FileManager.default.fileExists(
        atPath: repository.appending(path: ".build/c-library/libpostcopy.so.1").path)

    init() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "postcopy-c-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
        prefix = folder.appending(path: "prefix")
        shell = Shell(folder: folder)
        try make("install-built PREFIX=\(prefix.path)")
    }

    deinit { try? FileManager.default.removeItem(at: shell.folder) }

    /// Runs a target of the repository's Makefile that builds nothing.
    func make(_ arguments: String) throws {
        let ended = try shell.run(
            "make --no-print-directory -C '\(Self.repository.path)' \(arguments)")
        try #require(ended.status == 0, "\(ended)")
    }

    /// Where pkg-config and the loader find it.
    var environment: [String: String] {
        [
            "PKG_CONFIG_PATH": prefix.appending(path: "lib/pkgconfig").path,
            "LD_LIBRARY_PATH": prefix.appending(path: "lib").path,
        ]
    }

    /// Runs a line of shell that knows where the library is.
    func run(_ line: String, withinSeconds seconds: Int = 120) throws -> Shell.Ended {
        try shell.run(line, withinSeconds: seconds, environment)
    }

    /// Every file below the prefix, by its path there.
    func files(below place: URL? = nil) -> Set<String> {
        let top = (place ?? prefix).path
        let found = FileManager.default.enumerator(atPath: top)?.compactMap { $0 as? String } ?? []
        return Set(
            found.filter { path in
                let attributes = try? FileManager.default.attributesOfItem(atPath: "\(top)/\(path)")
                return attributes?[.type] as? FileAttributeType != .typeDirectory
            })
    }

    /// The installed headers in one text, without comments.
    func headerCode() throws -> String {
        let headers = files().filter { $0.hasSuffix(".h") }.sorted()
        let text = try headers.map { path in
            try String(contentsOf: prefix.appending(path: path), encoding: .utf8)
        }.joined(separator: "\n")
        return text.replacing(/\/\*(?s:.*?)\*\//, with: " ")
    }

    /// The functions that the headers declare.
    func declaredFunctions() throws -> Set<String> {
        Set(try headerCode().matches(of: /\b(postcopy_[a-z_]+)\(/).map { String($0.1) })
    }
}
