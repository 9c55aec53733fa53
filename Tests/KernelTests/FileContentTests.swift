import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite("GuestRAM, read from a file")
struct FileContentTests {
    private static let page = HostMemory.pageSize.bytes
    /// tmpfs, and whatever holds the temporary files.
    private static let folders = ["/dev/shm", "/tmp"]

    /// A file with a number at the start of some of its pages, and holes for the others.
    private final class SparseFile {
        let path: String
        let lengthBytes: UInt64

        init(pages: UInt64, filled: [UInt64], in folder: String) throws {
            lengthBytes = pages * page
            path = "\(folder)/postcopy-content-\(getpid())-\(UInt32.random(in: 0...(.max)))"
            let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            try #require(raw >= 0)
            defer { close(raw) }
            try #require(ftruncate(raw, off_t(lengthBytes)) == 0)
            for index in filled {
                var word = index + 1
                try #require(unsafe pwrite(raw, &word, 8, off_t(index * page)) == 8)
            }
        }

        deinit { _ = unsafe unlink(path) }

        /// What the file takes of its disk.
        var allocatedBytes: UInt64 {
            var status = stat()
            guard unsafe stat(path, &status) == 0 else { return 0 }
            return UInt64(status.st_blocks) * 512
        }
    }

    private func geometry(
        _ bytes: UInt64, _ page: PageSize = HostMemory.pageSize
    ) throws -> BlockGeometry {
        try BlockGeometry(name: "pc.ram", lengthBytes: bytes, hostPage: page)
    }

    private func refusal(_ geometry: BlockGeometry, _ path: String) -> RAMError? {
        do throws(RAMError) { _ = try GuestRAM(geometry, contentOf: path) } catch { return error }
        return nil
    }

    @Test("data is there, holes are zero and stay holes", arguments: folders)
    func content(folder: String) throws {
        let filled: [UInt64] = [0, 1, 100, 2_000, 4_095]
        let file = try SparseFile(pages: 4_096, filled: filled, in: folder)
        let before = file.allocatedBytes
        let ram = try GuestRAM(geometry(file.lengthBytes), contentOf: file.path)
        for index in 0..<4_096 as Range<UInt64> {
            let expected = filled.contains(index) ? index + 1 : 0
            #expect(ram.loadWord(at: index * Self.page) == expected)
            #expect(ram.loadWord(at: index * Self.page + 8) == 0)
        }
        #expect(file.allocatedBytes == before)
        #expect(!ram.isShared && !ram.isResizable && !ram.canMissPages && ram.isFileContent)
        #expect(mappingFlags(at: ram.address.rawValue).contains("dd"))
    }

    @Test("what is written is seen here alone, until it is dropped")
    func writes() throws {
        let file = try SparseFile(pages: 64, filled: [3], in: "/tmp")
        let ram = try GuestRAM(geometry(file.lengthBytes), contentOf: file.path)
        let other = try GuestRAM(geometry(file.lengthBytes), contentOf: file.path)
        for index in [3, 40] as [UInt64] {
            ram.storeWord(99, at: index * Self.page)
            #expect(ram.loadWord(at: index * Self.page) == 99)
            #expect(other.loadWord(at: index * Self.page) == (index == 3 ? 4 : 0))
        }
        try ram.drop(from: RAMOffset(rawValue: 0), lengthBytes: file.lengthBytes)
        #expect(ram.loadWord(at: 3 * Self.page) == 4)
        #expect(ram.loadWord(at: 40 * Self.page) == 0)
    }

    @Test("a file of very many runs is mapped in few", arguments: folders)
    func manyRuns(folder: String) throws {
        // Every 32nd page: the holes between are longer than what is joined at once.
        let filled = Array(stride(from: 5 as UInt64, to: 100_000, by: 32))
        let file = try SparseFile(pages: 100_000, filled: filled, in: folder)
        let mappings = { HostUnderTest.readText("/proc/self/maps").split(separator: "\n").count }
        let before = mappings()
        let ram = try GuestRAM(geometry(file.lengthBytes), contentOf: file.path)
        // Other tests map something meanwhile.
        #expect(mappings() < before + 2 * 1_024 + 200)
        for index in filled { #expect(ram.loadWord(at: index * Self.page) == index + 1) }
        #expect(ram.loadWord(at: 6 * Self.page) == 0)
    }

    @Test("a longer file and larger host pages will do")
    func larger() throws {
        let file = try SparseFile(pages: 1_600, filled: [600], in: "/tmp")
        let block = try geometry(4 << 20, .size2MiB)
        let ram = try GuestRAM(block, contentOf: file.path)
        #expect(ram.loadWord(at: 600 * Self.page) == 601)
        #expect(ram.placingUnit == HostMemory.pageSize)
    }

    @Test("it survives its file's name, and leaves no descriptor")
    func unlinked() async {
        await #expect(processExitsWith: .success) {
            var file: SparseFile? = try SparseFile(pages: 8, filled: [7], in: "/tmp")
            let path = try #require(file?.path)
            let before = HostUnderTest.descriptors(of: path)
            let block = try BlockGeometry(
                name: "a", lengthBytes: 8 * FileContentTests.page, hostPage: HostMemory.pageSize)
            let ram = try GuestRAM(block, contentOf: path)
            #expect(HostUnderTest.descriptors(of: path) == before)
            file = nil
            #expect(ram.loadWord(at: 7 * FileContentTests.page) == 8)
        }
    }

    @Test("files that are not fit are refused with what to do, and nobody waits")
    func refusals() throws {
        let block = try geometry(2 * Self.page)
        let missing = HostUnderTest.temporaryPath("missing")
        #expect(
            refusal(block, missing)
                == .readingFile(block: "pc.ram", path: missing, .noEntry))
        for special in ["/dev/null", "/tmp"] {
            #expect(
                refusal(block, special) == .noRegularFile(block: "pc.ram", path: special))
        }
        let pipe = HostUnderTest.temporaryPath("pipe")
        try #require(unsafe mkfifo(pipe, 0o600) == 0)
        defer { _ = unsafe unlink(pipe) }
        #expect(refusal(block, pipe) == .noRegularFile(block: "pc.ram", path: pipe))
        let short = try SparseFile(pages: 1, filled: [0], in: "/tmp")
        let error = refusal(block, short.path)
        #expect(
            error
                == .contentTooShort(
                    block: "pc.ram", path: short.path, lengthBytes: Self.page,
                    neededBytes: 2 * Self.page))
        #expect("\(error!)".contains("has 8192 bytes, its file '\(short.path)' only 4096"))
    }

    @Test(
        "it is enough to be allowed to read the file, and needed",
        .enabled(if: geteuid() == 0, "needs root, to become a user without privilege"))
    func permissions() async {
        await #expect(processExitsWith: .success) {
            let readable = try SparseFile(pages: 1, filled: [0], in: "/tmp")
            let closed = try SparseFile(pages: 1, filled: [0], in: "/tmp")
            try #require(unsafe chmod(readable.path, 0o444) == 0)
            // 65534 is nobody, who could not remove the files.
            try #require(seteuid(65_534) == 0)
            defer { _ = seteuid(0) }
            let block = try BlockGeometry(
                name: "a", lengthBytes: FileContentTests.page, hostPage: HostMemory.pageSize)
            let ram = try GuestRAM(block, contentOf: readable.path)
            #expect(ram.loadWord(at: 0) == 1)
            let expected = RAMError.readingFile(block: "a", path: closed.path, .accessDenied)
            #expect(throws: expected) { try GuestRAM(block, contentOf: closed.path) }
            #expect("\(expected)".contains("Permission denied; it must be a regular file"))
        }
    }
}
