import Foundation
import Testing

/// What `make install` puts where, and what the library needs there.
@Suite(
    .serialized,
    .enabled(if: InstalledLibrary.isBuilt, "build the C library first: make c-library"))
struct InstallTests {
    private let library: InstalledLibrary

    init() throws { library = try InstalledLibrary() }

    private static let expected: Set = [
        "include/postcopy.h", "include/postcopy/error.h", "include/postcopy/faults.h",
        "include/postcopy/guest.h", "include/postcopy/memory.h", "include/postcopy/migration.h",
        "include/postcopy/options.h", "lib/libpostcopy.a", "lib/libpostcopy.so",
        "lib/libpostcopy.so.1", "lib/pkgconfig/postcopy.pc",
    ]

    @Test("install puts these files below the prefix, and uninstall takes them away")
    func files() throws {
        #expect(library.files() == Self.expected)
        try library.make("uninstall PREFIX=\(library.prefix.path)")
        #expect(library.files() == [])
    }

    @Test("a package's files lie below DESTDIR, and know the prefix without it")
    func package() throws {
        let stage = library.shell.folder.appending(path: "stage")
        let arguments = "PREFIX=/opt/vmm DESTDIR=\(stage.path)"
        try library.make("install-built \(arguments)")
        let prefix = stage.appending(path: "opt/vmm")
        #expect(library.files(below: prefix) == Self.expected)
        let place = prefix.appending(path: "lib/pkgconfig").path
        let told = try library.shell.run(
            "pkg-config --cflags --libs postcopy", ["PKG_CONFIG_PATH": place])
        #expect(told.status == 0, "\(told)")
        #expect(told.output.contains("-I/opt/vmm/include"))
        #expect(told.output.contains("-L/opt/vmm/lib -lpostcopy"))
        #expect(!told.output.contains(stage.path))
        try library.make("uninstall \(arguments)")
        #expect(library.files(below: stage) == [])
    }

    @Test("the shared library exports the functions of the headers, all of one version")
    func symbols() throws {
        let listed = try library.run(
            "nm -D --defined-only '\(library.prefix.path)/lib/libpostcopy.so'")
        #expect(listed.status == 0, "\(listed)")
        let exported = listed.output.split(separator: "\n").compactMap {
            $0.split(separator: " ").last
        }
        let declared = try library.declaredFunctions()
        #expect(declared.count > 40)
        let expected = Set(declared.map { "\($0)@@POSTCOPY_1.0" } + ["POSTCOPY_1.0"])
        #expect(Set(exported.map(String.init)) == expected)
    }

    @Test("the static library has no other global symbols either")
    func staticSymbols() throws {
        let listed = try library.run(
            "nm -g --defined-only '\(library.prefix.path)/lib/libpostcopy.a' "
                + "| awk 'NF == 3 { print $3 }'"
        )
        #expect(listed.status == 0, "\(listed)")
        let symbols = Set(listed.output.split(separator: "\n").map(String.init))
        #expect(symbols == (try library.declaredFunctions()))
    }

    @Test("the shared library needs the C and C++ runtimes, liburing and zlib, and no path")
    func needs() throws {
        let path = "\(library.prefix.path)/lib/libpostcopy.so.1"
        let read = try library.run("readelf -d '\(path)'")
        #expect(read.status == 0, "\(read)")
        let needed = Set(read.output.matches(of: /NEEDED.*\[(.*)\]/).map { String($0.1) })
        let known: Set = [
            "liburing.so.2", "libz.so.1", "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6",
            "libpthread.so.0", "libdl.so.2", "libc.so.6", "ld-linux-x86-64.so.2",
            "ld-linux-aarch64.so.1",
        ]
        #expect(needed.subtracting(known) == [])
        #expect(needed.contains("libc.so.6"))
        #expect(read.output.contains("soname: [libpostcopy.so.1]"))
        #expect(!read.output.contains("RPATH") && !read.output.contains("RUNPATH"))
    }

    @Test("no file knows where the repository or the Swift toolchain is")
    func paths() throws {
        let swift = try library.run(
            "swiftc -print-target-info | sed -n 's/.*runtimeResourcePath\": *\"\\(.*\\)\".*/\\1/p'")
        let toolchain = swift.output.trimmingCharacters(in: .whitespacesAndNewlines)
        try #require(toolchain.hasPrefix("/"), "\(swift)")
        let repository = InstalledLibrary.repository.path
        for file in library.files() {
            let bytes = try Data(contentsOf: library.prefix.appending(path: file))
            #expect(bytes.range(of: Data(toolchain.utf8)) == nil, "\(file) names \(toolchain)")
            #expect(bytes.range(of: Data(repository.utf8)) == nil, "\(file) names \(repository)")
        }
    }

    @Test(
        "the header is clean C and C++",
        arguments: [
            "cc -x c -std=c11", "cc -x c -std=c17", "c++ -x c++ -std=c++17",
            "c++ -x c++ -std=c++20",
            "clang -x c -std=c11", "clang -x c++ -std=c++17",
        ])
    func header(compiler: String) throws {
        // Each header also stands alone.
        for header in library.files().filter({ $0.hasSuffix(".h") }) {
            let source = "#include <\(header.dropFirst("include/".count))>"
            let flags =
                "-pedantic -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags postcopy)"
            let ended = try library.run("echo '\(source)' | \(compiler) \(flags) -")
            #expect(ended.status == 0, "\(header): \(ended)")
        }
    }

    @Test("the library's version is that of the headers and of pkg-config")
    func version() throws {
        let numbers = try ["MAJOR", "MINOR", "PATCH"].map { part in
            let pattern = try Regex("POSTCOPY_VERSION_\(part) (\\d+)")
            let match = try #require(try library.headerCode().firstMatch(of: pattern))
            return String(try #require(match.output[1].substring))
        }
        let said = try library.run("pkg-config --modversion postcopy")
        #expect(said.output == numbers.joined(separator: ".") + "\n")
    }
}
