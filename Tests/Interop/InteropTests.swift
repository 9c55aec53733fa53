import Foundation
import TestSupport
import Testing

/// Migrations between a real QEMU and the command, each with a guest that checks its own memory.
@Suite struct InteropTests {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    private static let python = folder.deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent(".build/interop/bin/python3")

    /// As root, to reserve huge pages; with what `make test` installs.
    private static let canRun =
        geteuid() == 0 && FileManager.default.isExecutableFile(atPath: python.path)
        && ["/usr/bin/qemu-system-x86_64", "/usr/local/bin/qemu-system-x86_64"].contains {
            FileManager.default.isExecutableFile(atPath: $0)
        }

    /// Some 30 migrations, of which those of 2 GiB take half a minute each where others compute too.
    private static let secondsMax = 900

    @Test(
        "a guest moves from QEMU to us, from us to QEMU, and through us, and is good afterwards",
        .enabled(if: canRun, "needs root, QEMU, and the Python packages that make test installs"),
        .timeLimit(.minutes(16)))
    func suite() async throws {
        let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent("postcopy")
        let (status, text) = try await ForeignProgram.run(
            Self.python,
            [
                Self.folder.appendingPathComponent("run.py").path, "all", "--postcopy",
                program.path,
            ], secondsMax: Self.secondsMax)
        #expect(status == 0, "\(text)")
        #expect(text.contains("passed, 0 failed"), "\(text)")
        print(text)
    }
}
