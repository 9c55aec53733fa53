import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("Folders and files on disk")
struct FolderTests {
    /// A folder that is gone with all its files when `body` returns.
    private func withFolder(_ body: (borrowing Folder, String) throws -> Void) throws {
        let path = HostUnderTest.temporaryPath("folder")
        try #require(unsafe mkdir(path, 0o700) == 0)
        defer {
            for name in HostUnderTest.names(in: path) {
                if unsafe unlink("\(path)/\(name)") != 0 { _ = unsafe rmdir("\(path)/\(name)") }
            }
            _ = unsafe rmdir(path)
        }
        try body(Folder(path), path)
    }

    private func refusal(_ body: () throws(Errno) -> Void) -> Errno? {
        do throws(Errno) { try body() } catch { return error }
        return nil
    }

    @Test("a file is made once, written anywhere and read back")
    func files() throws {
        try withFolder { folder, path in
            do {
                let file = try folder.make(file: "a")
                try file.setLength(10)
                let (bytes, none): ([UInt8], [UInt8]) = ([1, 2, 3], [])
                try file.write(bytes.span, at: 6)
                try file.write(none.span, at: 3)
                try file.sync()
            }
            #expect(refusal { () throws(Errno) in _ = try folder.make(file: "a") } == .exists)
            let file = try folder.open(file: "a")
            #expect(try file.lengthBytes() == 10)
            #expect(try file.read(lengthBytes: 100) == [0, 0, 0, 0, 0, 0, 1, 2, 3, 0])
            #expect(try file.read(lengthBytes: 7) == [0, 0, 0, 0, 0, 0, 1])
            let one: [UInt8] = [1]
            let closed = refusal { () throws(Errno) in try file.write(one.span, at: 0) }
            #expect(closed == Errno(rawValue: EBADF))
            #expect(refusal { () throws(Errno) in _ = try folder.open(file: "b") } == .noEntry)
            #expect(try folder.open(file: ".").lengthBytes() == nil)
        }
    }

    @Test("memory is written to its own place")
    func memory() throws {
        try withFolder { folder, _ in
            let page = HostMemory.pageSize.bytes
            let ram = try GuestRAM(
                BlockGeometry(name: "a", lengthBytes: 4 * page, hostPage: HostMemory.pageSize),
                backing: .anonymous)
            ram.storeWord(0x0807_0605_0403_0201, at: 2 * page)
            do {
                let file = try folder.make(file: "a")
                try file.write(
                    RAMOffset(rawValue: 2 * page)..<RAMOffset(rawValue: 3 * page), of: ram)
            }
            let bytes = try folder.open(file: "a").read(lengthBytes: Int(4 * page))
            #expect(bytes.count == Int(3 * page))
            #expect(Array(bytes[Int(2 * page)..<Int(2 * page) + 9]) == [1, 2, 3, 4, 5, 6, 7, 8, 0])
        }
    }

    @Test("a new name replaces nothing")
    func rename() throws {
        try withFolder { folder, path in
            try folder.make(folder: "a")
            try folder.make(folder: "b")
            #expect(
                refusal { () throws(Errno) in try folder.rename("a", to: "b") } == .exists)
            try folder.remove(folder: "b")
            try folder.rename("a", to: "b")
            #expect(try folder.names() == ["b"])
            #expect(refusal { () throws(Errno) in try folder.make(folder: "b") } == .exists)
            #expect(refusal { () throws(Errno) in try folder.rename("a", to: "c") } == .noEntry)
            try folder.sync()
        }
    }

    @Test("links are entries, and not followed into other folders")
    func links() throws {
        try withFolder { folder, path in
            try #require(unsafe symlink("nowhere", "\(path)/dangling") == 0)
            try #require(unsafe symlink(".", "\(path)/here") == 0)
            #expect(try folder.holds("dangling"))
            #expect(try !folder.holds("nowhere"))
            #expect(
                refusal { () throws(Errno) in _ = try folder.open(folder: "here") }
                    == Errno(rawValue: ENOTDIR))
            #expect(Set(try folder.names()) == ["dangling", "here"])
        }
    }

    @Test("an open folder is told from another one of its name")
    func identity() throws {
        try withFolder { folder, _ in
            try folder.make(folder: "a")
            let first = try folder.open(folder: "a")
            #expect(try folder.holds(first, as: "a"))
            try folder.rename("a", to: "b")
            #expect(try !folder.holds(first, as: "a"))
            try folder.make(folder: "a")
            #expect(try !folder.holds(first, as: "a"))
            #expect(try folder.holds(first, as: "b"))
        }
    }

    @Test("one user locks a folder, until he closes it")
    func locks() throws {
        try withFolder { folder, path in
            do {
                let other = try Folder(path)
                #expect(try other.lock())
                #expect(try other.lock())
                #expect(try !folder.lock())
            }
            // Another test's child may hold what it inherited until it runs its own program.
            let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
            var isLocked = try folder.lock()
            while !isLocked, Monotonic.now() < deadline { isLocked = try folder.lock() }
            #expect(isLocked)
        }
    }

    @Test("what is free is what statvfs says, and a disk without a limit says nothing")
    func space() throws {
        try withFolder { folder, path in
            var status = statvfs()
            try #require(unsafe statvfs(path, &status) == 0)
            let free = try #require(try folder.freeBytes())
            // Others write meanwhile.
            #expect(free > 0)
            #expect(free <= UInt64(status.f_blocks) * UInt64(status.f_frsize))
        }
        #expect(try Folder("/proc").freeBytes() == nil)
    }

    @Test("folders that cannot be opened say why")
    func refusals() {
        #expect(refusal { () throws(Errno) in _ = try Folder("/nonexistent") } == .noEntry)
        #expect(
            refusal { () throws(Errno) in _ = try Folder("/dev/null") } == Errno(rawValue: ENOTDIR))
    }

    @Test("a path is no name")
    func paths() async {
        await #expect(processExitsWith: .failure) {
            _ = try Folder("/tmp").open(file: "../etc/passwd")
        }
        await #expect(processExitsWith: .failure) { try Folder("/tmp").make(folder: "") }
    }

    @Test("folders and files leave no descriptor")
    func leaks() async {
        await #expect(processExitsWith: .success) {
            let before = HostUnderTest.descriptorCount
            for _ in 0..<50 {
                let folder = try Folder("/proc/self")
                _ = try folder.names()
                _ = try folder.open(folder: "task").names()
                _ = try folder.open(file: "status").read(lengthBytes: 10)
                _ = try? folder.make(file: "nothing")
            }
            #expect(HostUnderTest.descriptorCount < before + 25)
        }
    }

    @Test("the checksum is that of gzip")
    func checksum() {
        func checksum(_ bytes: [UInt8]) -> UInt32 { Checksum.crc32(of: bytes.span) }
        #expect(checksum(Array("123456789".utf8)) == 0xcbf4_3926)
        #expect(checksum([]) == 0)
        #expect(checksum([0]) == 0xd202_ef8d)
    }
}
