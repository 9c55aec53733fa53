import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite(
    "Pages from a memory file",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct FilePagesTests {
    /// A file of 64 pages of which the even ones are holes.
    private func withFile(_ body: (String) throws -> Void) throws {
        let path = Host.temporaryPath("memory")
        let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
        try #require(raw >= 0)
        defer {
            close(raw)
            _ = unsafe unlink(path)
        }
        try #require(ftruncate(raw, 64 << 12) == 0)
        for page in stride(from: 1, to: 64, by: 2) {
            let words = [UInt64](repeating: UInt64(page), count: 512)
            try #require(unsafe pwrite(raw, words, 4096, off_t(page) << 12) == 4096)
        }
        try body(path)
    }

    private func block(_ name: String, pages: UInt64) throws -> GuestRAM {
        try GuestRAM(
            BlockGeometry(name: name, lengthBytes: pages << 12, hostPage: .target),
            backing: .anonymous)
    }

    @Test("each block has its part, and holes are zeros that take no memory")
    func content() throws {
        try withFile { path in
            let memory = [try block("a", pages: 24), try block("b", pages: 40)]
            let handler = try FaultHandler(
                memory: memory, pages: try FilePages(path, of: memory))
            try handler.start()
            let words = try bounded {
                (0..<64).map { page in
                    page < 24
                        ? memory[0].loadWord(at: UInt64(page) << 12)
                        : memory[1].loadWord(at: UInt64(page - 24) << 12 | 4088)
                }
            }
            #expect(words == (0..<64).map { $0 % 2 == 0 ? 0 : UInt64($0) })
            let report = handler.stop()
            #expect(report.progress.zeroPages == 32)
        }
    }

    @Test("a region of another process is read where it says")
    func offsets() throws {
        try withFile { path in
            let ram = try block("a", pages: 8)
            let raw = RawUserfaultfd.open(features: 0)
            let region = ForeignRegionDescription(
                address: ram.address.rawValue, lengthBytes: 8 << 12, contentOffset: 50 << 12,
                pageBytes: 4096)
            let memory = try ForeignMemory(
                userfaultfd: FileDescriptor(owning: raw), regions: [region])
            let pages = try FilePages(path, of: memory.regions)
            var bytes = [UInt8](repeating: 9, count: 4096)
            var span = bytes.mutableSpan
            let content = try pages.read(
                &span, at: RAMOffset(rawValue: 5 << 12), of: BlockIndex(rawValue: 0))
            #expect(content == .bytes)
            #expect(bytes[0] == 55)
        }
    }

    @Test("a file that is too short, none at all, or no file is refused by its name")
    func refusals() throws {
        try withFile { path in
            let long = [try block("a", pages: 64), try block("b", pages: 1)]
            #expect(
                throws: FilePagesError.tooShort(
                    path, lengthBytes: 64 << 12, neededBytes: 65 << 12)
            ) { try FilePages(path, of: long) }
        }
        let memory = [try block("a", pages: 1)]
        #expect(throws: FilePagesError.opening("/tmp/none/such", .noEntry)) {
            try FilePages("/tmp/none/such", of: memory)
        }
        #expect(throws: FilePagesError.noFile("/tmp")) { try FilePages("/tmp", of: memory) }
        #expect(throws: FilePagesError.noFile("/dev/zero")) {
            try FilePages("/dev/zero", of: memory)
        }
    }

    @Test("a file that is cut off meanwhile is an error that names it")
    func cutOff() throws {
        try withFile { path in
            let memory = [try block("a", pages: 64)]
            let pages = try FilePages(path, of: memory)
            try #require(unsafe truncate(path, 2 << 12) == 0)
            var bytes = [UInt8](repeating: 0, count: 8192)
            var span = bytes.mutableSpan
            var problem = ""
            do {
                _ = try pages.read(
                    &span, at: RAMOffset(rawValue: 1 << 12), of: BlockIndex(rawValue: 0))
            } catch { problem = "\(error)" }
            #expect(problem.contains(path), "\(problem)")
        }
    }
}
