import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("GuestRAM, mapped from a file that others map too")
struct SharedFileTests {
    private func geometry(
        pages: UInt64, _ page: PageSize = HostMemory.pageSize
    ) throws -> BlockGeometry {
        try BlockGeometry(name: "pc.ram", lengthBytes: pages * page.bytes, hostPage: page)
    }

    /// A file of zeros that is gone when `body` returns.
    private func withFile<Result>(
        bytes: UInt64, in folder: String = "/dev/shm", _ body: (String) throws -> Result
    ) throws -> Result {
        let name = HostUnderTest.temporaryPath("ram").split(separator: "/").last!
        let path = "\(folder)/\(name)"
        let raw = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        try #require(raw >= 0)
        defer { _ = unsafe unlink(path) }
        try #require(ftruncate(raw, off_t(bytes)) == 0)
        close(raw)
        return try body(path)
    }

    private func refusal(_ geometry: BlockGeometry, _ path: String) -> RAMError? {
        do throws(RAMError) { _ = try GuestRAM(geometry, sharing: path) } catch { return error }
        return nil
    }

    @Test("two that map one file see each other's writes, and the file keeps them")
    func shares() throws {
        let page = HostMemory.pageSize.bytes
        try withFile(bytes: 4 * page) { path in
            do {
                let one = try GuestRAM(geometry(pages: 4), sharing: path, guestPhysicalAddress: 7)
                let two = try GuestRAM(geometry(pages: 3), sharing: path)
                #expect(one.isShared && two.isShared)
                #expect(one.guestPhysicalAddress == 7)
                #expect(!one.isResizable && one.usedBytes == 4 * page)
                one.storeWord(5, at: 2 * page)
                #expect(two.loadWord(at: 2 * page) == 5)
                try two.drop(from: RAMOffset(rawValue: 2 * page), lengthBytes: page)
                #expect(one.loadWord(at: 2 * page) == 0, "dropped from the file")
                one.storeWord(6, at: 0)
            }
            let later = try GuestRAM(geometry(pages: 4), sharing: path)
            #expect(later.loadWord(at: 0) == 6)
        }
        #expect(try !GuestRAM(geometry(pages: 1), backing: .memfd).isShared)
    }

    @Test("a descriptor is as good as its path, and may be closed")
    func descriptor() throws {
        try withFile(bytes: HostMemory.pageSize.bytes) { path in
            let named = try GuestRAM(geometry(pages: 1), sharing: path)
            let raw = unsafe open(path, O_RDWR | O_CLOEXEC)
            try #require(raw >= 0)
            let handed: GuestRAM
            do {
                let file = FileDescriptor(owning: raw)
                handed = try GuestRAM(geometry(pages: 1), sharing: file)
            }
            named.storeWord(9, at: 8)
            #expect(handed.loadWord(at: 8) == 9)
            #expect(named.hasOtherUsers && handed.hasOtherUsers)
        }
    }

    @Test("who else maps a file is known while he does")
    func users() throws {
        try withFile(bytes: HostMemory.pageSize.bytes) { path in
            let one = try GuestRAM(geometry(pages: 1), sharing: path)
            #expect(!one.hasOtherUsers)
            do {
                let two = try GuestRAM(geometry(pages: 1), sharing: path)
                #expect(one.hasOtherUsers && two.hasOtherUsers)
                #expect(one.hasOtherUsers, "asking takes nobody's lock away")
            }
            // Another test's child may hold what it inherited until it runs its own program.
            let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
            while one.hasOtherUsers, Monotonic.now() < deadline { sched_yield() }
            #expect(!one.hasOtherUsers)
            #expect(one.canMissPages)
        }
        #expect(try !GuestRAM(geometry(pages: 1), backing: .memfd).hasOtherUsers)
    }

    @Test("the kernel reports no missing pages of a file on a disk", .enabled(if: hasDisk))
    func disk() throws {
        try withFile(bytes: HostMemory.pageSize.bytes, in: "/var/tmp") { path in
            let ram = try GuestRAM(geometry(pages: 1), sharing: path)
            ram.storeWord(1, at: 0)
            #expect(!ram.canMissPages)
            let uffd = try Userfaultfd.open(.userOnly)
            #expect(throws: Errno.invalidArgument) { try uffd.register(ram) }
        }
    }

    private static let hasDisk =
        !HostUnderTest.readText("/proc/self/mounts").contains(" /var/tmp tmpfs ")

    @Test("files that are not fit are refused with what to do")
    func refusals() throws {
        let page = HostMemory.pageSize.bytes
        let block = try geometry(pages: 2)
        let missing = HostUnderTest.temporaryPath("missing")
        #expect(
            refusal(block, missing)
                == .openingFile(block: "pc.ram", path: missing, .noEntry))
        #expect(
            refusal(block, "/dev/null") == .noRegularFile(block: "pc.ram", path: "/dev/null"))
        try withFile(bytes: page) { path in
            let short = refusal(block, path)
            #expect(
                short
                    == .fileTooShort(
                        block: "pc.ram", path: path, lengthBytes: page, neededBytes: 2 * page))
            #expect("\(short!)".hasSuffix("truncate -s \(2 * page) '\(path)'"))
            let huge = try geometry(pages: 1, .size2MiB)
            try #require(unsafe truncate(path, off_t(huge.lengthBytes)) == 0)
            let pages = refusal(huge, path)
            #expect(
                pages
                    == .filePageSize(
                        block: "pc.ram", path: path, pageBytes: page, page: .size2MiB))
            #expect("\(pages!)".contains("pagesize=2097152"))
            let raw = unsafe open(path, O_RDWR | O_CLOEXEC)
            defer { close(raw) }
            try #require(flock(raw, LOCK_EX | LOCK_NB) == 0)
            let locked = refusal(block, path)
            #expect(locked == .openingFile(block: "pc.ram", path: path, .again))
            #expect("\(locked!)".contains("nobody has locked"))
        }
    }

    @Test(
        "a file of huge pages is mapped in huge pages, and refused without them",
        .enabled(if: HostUnderTest.canRaiseHugePages, "needs root and huge pages of 2 MiB"))
    func hugePages() throws {
        let folder = HostUnderTest.temporaryPath("huge")
        try #require(unsafe mkdir(folder, 0o700) == 0)
        defer { _ = unsafe rmdir(folder) }
        try #require(unsafe mount("none", folder, "hugetlbfs", 0, nil) == 0)
        defer { _ = unsafe umount(folder) }
        let block = try geometry(pages: 2, .size2MiB)
        try HugePagePool.raised(by: 2) {
            try withFile(bytes: block.lengthBytes, in: folder) { path in
                let one = try GuestRAM(block, sharing: path)
                let two = try GuestRAM(block, sharing: path)
                #expect(one.backing == .hugetlb && one.canMissPages && one.hasOtherUsers)
                one.storeWord(3, at: 2 << 20)
                #expect(two.loadWord(at: 2 << 20) == 3)
                try one.drop(from: RAMOffset(rawValue: 0), lengthBytes: block.lengthBytes)
                #expect(two.loadWord(at: 2 << 20) == 0, "dropped from the file")
                let small = try geometry(pages: 1)
                #expect(
                    refusal(small, path)
                        == .filePageSize(
                            block: "pc.ram", path: path, pageBytes: 2 << 20,
                            page: HostMemory.pageSize))
            }
        }
        let many = try geometry(pages: 1 << 20, .size2MiB)
        try withFile(bytes: many.lengthBytes, in: folder) { path in
            guard case .tooFewHugePages = refusal(many, path) else {
                Issue.record("\(String(describing: refusal(many, path)))")
                return
            }
        }
    }
}
