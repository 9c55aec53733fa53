import Foundation
import Testing

/// The program in C that is migrated: built by the commands that a user types, from an installed
/// prefix.
@Suite(
    .serialized,
    .enabled(if: InstalledLibrary.isBuilt, "build the C library first: make c-library"))
struct ExampleTests {
    private let library: InstalledLibrary

    init() throws { library = try InstalledLibrary() }

    /// How it is built.
    enum Build: String, CaseIterable, CustomTestStringConvertible, Sendable {
        case shared = "$(pkg-config --cflags --libs postcopy)"
        /// All in one file; the C library warns of what it then reads at run time.
        case isStatic = "-static $(pkg-config --static --cflags --libs postcopy)"
        /// Ours alone: the libraries of the system are shared.
        case archive =
            "$(pkg-config --static --cflags --libs postcopy | sed 's/-lpostcopy/-l:libpostcopy.a/')"
        case sanitized =
            "-g -fsanitize=address,undefined $(pkg-config --cflags --libs postcopy)"

        var testDescription: String { rawValue }
        /// The linker's own advice about `-static`.
        var warnings: String { self == .isStatic ? "" : "-Werror" }
    }

    @Test(
        "c-vmm moves from one process to another with every page right", arguments: Build.allCases)
    func moves(build: Build) throws {
        let sources = InstalledLibrary.repository.appending(path: "examples/c-vmm").path
        let built = try library.run(
            "cc -std=c11 -O1 -pedantic -Wall -Wextra \(build.warnings) -o c-vmm '\(sources)'/*.c "
                + "-pthread \(build.rawValue)")
        try #require(built.status == 0, "\(built)")
        // What a sanitizer finds is an error, and not only a report.
        let ended = try library.run("UBSAN_OPTIONS=halt_on_error=1 ./c-vmm 16", withinSeconds: 60)
        #expect(ended.status == 0, "\(ended)")
        #expect(ended.output.contains("destination: completed"), "\(ended)")
        #expect(ended.output.contains(", 0 of 4096 are wrong"), "\(ended)")
        #expect(ended.output.contains("source: completed"), "\(ended)")
    }

    @Test("one bit of damage is found by its own check, and fails it")
    func damage() throws {
        let sources = InstalledLibrary.repository.appending(path: "examples/c-vmm").path
        let built = try library.run(
            "cc -std=c11 -o c-vmm '\(sources)'/*.c -pthread \(Build.shared.rawValue)")
        try #require(built.status == 0, "\(built)")
        let ended = try library.run("C_VMM_DAMAGE=1 ./c-vmm 2", withinSeconds: 60)
        #expect(ended.status == 1, "\(ended)")
        #expect(ended.output.contains("destination: completed"), "\(ended)")
        #expect(ended.output.contains(", 1 of 512 are wrong"), "\(ended)")
    }

    @Test("its own mistakes are told in words, and exit with a status")
    func usage() throws {
        let sources = InstalledLibrary.repository.appending(path: "examples/c-vmm").path
        let built = try library.run(
            "cc -std=c11 -o c-vmm '\(sources)'/*.c -pthread \(Build.shared.rawValue)")
        try #require(built.status == 0, "\(built)")
        for argument in ["0", "3", "-2", "much", "2 2"] {
            let ended = try library.run("./c-vmm \(argument)", withinSeconds: 20)
            #expect(ended.status == 2, "\(argument): \(ended)")
            #expect(ended.output.contains("usage: c-vmm"), "\(argument): \(ended)")
        }
    }
}
