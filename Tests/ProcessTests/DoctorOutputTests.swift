import Foundation
import Glibc
import Testing

/// What `postcopy doctor` prints, writes and answers.
@Suite(.serialized) struct DoctorOutputTests {
    private func run(
        _ arguments: [String], in place: TestPlace
    ) throws -> RunningCommand.Ended {
        try RunningCommand(["doctor"] + arguments, in: place).end(within: 60)
    }

    @Test("the table has a line for each check and no colours, and the status is the report's")
    func plain() throws {
        try inPlace { place in
            let report = try CrippledHost(in: place).report()
            let ended = try run(["--json", place.path("a.json")], in: place)
            #expect(ended.status == report.status, "\(ended)")
            #expect(!ended.output.contains("\u{1B}"))
            #expect(!report.lines.isEmpty)
            for name in report.lines.keys {
                #expect(ended.output.contains(" \(name) "), "\(name) in \(ended.output)")
            }
            let data = try Data(contentsOf: URL(fileURLWithPath: place.path("a.json")))
            let json = try JSONSerialization.jsonObject(with: data) as? [String: Any]
            #expect(json?["schema"] as? Int == 1)
            #expect(json?["command"] as? String == "doctor")
            #expect(place.leftovers(expecting: ["a.json", "postcopy"]) == [])
        }
    }

    @Test("with --strict what is degraded is a status of its own, with one line that names it")
    func strict() throws {
        try inPlace { place in
            // A lower limit of address space, which any host knows.
            let host = try CrippledHost(in: place)
            let limited = ["prlimit", "--as=600000000:600000000"]
            let lenient = try host.report(limited)
            let strict = try host.report(limited, arguments: ["--strict"])
            #expect(strict.status == (lenient.status == 0 ? 3 : lenient.status), "\(strict.ended)")
            #expect(strict.ended.errorLines.count == 1, "\(strict.ended)")
            #expect(strict.ended.errorLines.first?.contains("address-space") == true)
        }
    }

    @Test("a terminal of 20 columns and one without colours are served", arguments: [true, false])
    func terminal(hasColors: Bool) throws {
        try inPlace { place in
            let program = RunningCommand.program.path
            // Whoever runs the tests may have the variable too.
            let setting = hasColors ? "env -u NO_COLOR " : "NO_COLOR=1 "
            let command = try RunningCommand(
                [
                    "-qec", "stty cols 20; export TERM=xterm; \(setting)\(program) doctor",
                    "/dev/null",
                ],
                in: place, program: URL(fileURLWithPath: "/usr/bin/script"))
            let output = command.end(within: 60).output.replacing("\r\n", with: "\n")
            #expect(output.contains("\u{1B}[32mok") == hasColors, "\(output)")
            #expect(output.contains("\u{1B}") == hasColors)
            let codes = ["\u{1B}[31m", "\u{1B}[32m", "\u{1B}[33m", "\u{1B}[0m"]
            let text = codes.reduce(output) { $0.replacing($1, with: "") }
            #expect(text.contains("user-namespace"))
            for line in text.split(separator: "\n") where line.count > 20 {
                let words = line.split(separator: " ").filter { $0 != "\\" }
                #expect(words.count == 1, "\(line)")
            }
        }
    }

    @Test("what cannot be asked is refused in one line")
    func refused() throws {
        try inPlace { place in
            let cases = [
                (["--json", "/nowhere/a"], Int32(1), "/nowhere"),
                (["--nonsense"], 64, "--nonsense"),
                (["now"], 64, "now"),
            ]
            for (arguments, status, word) in cases {
                let ended = try run(arguments, in: place)
                #expect(ended.status == status, "\(ended)")
                #expect(ended.errorLines.count == 1, "\(ended)")
                #expect(ended.errorLines.first?.contains(word) == true, "\(ended)")
            }
        }
    }

    @Test("a control group that limits memory is named", .enabled(if: MemoryGroup.isOurs))
    func group() throws {
        try inPlace { place in
            let group = try MemoryGroup(limitBytes: 200 << 20)
            defer { group.remove() }
            let line = try CrippledHost(in: place).report(group.prefix).lines["memory-limit"]
            #expect(line?.state == "degraded")
            #expect(
                line?.finding.hasPrefix("200 MiB by \(group.limitFile)") == true, "\(line as Any)")
            #expect(line?.command.hasSuffix(" | sudo tee \(group.limitFile)") == true)
        }
    }
}

/// A control group below that of the tests, of either kind.
private struct MemoryGroup {
    private let folder: String
    private let isUnified: Bool

    private static let roots = [("/sys/fs/cgroup", true), ("/sys/fs/cgroup/memory", false)]

    /// Whether this host lets tests have one that limits memory.
    static let isOurs: Bool = {
        guard let group = try? MemoryGroup(limitBytes: 200 << 20) else { return false }
        group.remove()
        return true
    }()

    struct Impossible: Error {}

    init(limitBytes: Int) throws {
        let groups = try String(contentsOfFile: "/proc/self/cgroup", encoding: .utf8)
        for (root, isUnified) in Self.roots {
            let line = groups.split(separator: "\n").first {
                isUnified ? $0.hasPrefix("0::") : $0.contains(":memory:")
            }
            guard let path = line?.split(separator: ":", omittingEmptySubsequences: false).last
            else { continue }
            let folder = "\(root)\(path == "/" ? "" : path)/postcopy-test-\(getpid())"
            let group = MemoryGroup(folder: folder, isUnified: isUnified)
            if try group.make(limitBytes: limitBytes) {
                self = group
                return
            }
        }
        throw Impossible()
    }

    private init(folder: String, isUnified: Bool) {
        self.folder = folder
        self.isUnified = isUnified
    }

    private func make(limitBytes: Int) throws -> Bool {
        guard unsafe mkdir(folder, 0o755) == 0 else { return false }
        // No file is made there: only the kernel's are written.
        guard let handle = FileHandle(forWritingAtPath: limitFile) else {
            remove()
            return false
        }
        try handle.write(contentsOf: Data("\(limitBytes)\n".utf8))
        return true
    }

    var limitFile: String { "\(folder)/\(isUnified ? "memory.max" : "memory.limit_in_bytes")" }

    /// A shell that joins it before the command.
    var prefix: [String] { ["sh", "-c", "echo $$ > \(folder)/cgroup.procs; exec \"$@\"", "sh"] }

    func remove() { _ = unsafe rmdir(folder) }
}
