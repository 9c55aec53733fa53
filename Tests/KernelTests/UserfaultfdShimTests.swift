import CShims
import Glibc
import LinuxKernel
import Testing

/// The shims that no module uses yet, on real memory.
@Suite(
    "userfaultfd shims",
    .enabled(if: HostUnderTest.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct UserfaultfdShimTests {
    static let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))

    /// The features of this kernel, which the handshake tells whatever was asked for.
    static let supported: UInt64 = {
        let uffd = pc_uffd_open_device()
        guard uffd >= 0 else { return 0 }
        defer { close(uffd) }
        var supported: UInt64 = 0
        return unsafe pc_uffd_handshake(uffd, 0, &supported) == 0 ? supported : 0
    }()

    static func supports(_ feature: pc_uffd_feature) -> Bool {
        supported & UInt64(feature.rawValue) != 0
    }

    @Test("the kernel names its features and refuses what it does not know")
    func features() throws {
        let needed = [
            PC_UFFD_FEATURE_MISSING_HUGETLBFS, PC_UFFD_FEATURE_MISSING_SHMEM,
            PC_UFFD_FEATURE_THREAD_ID,
        ]
        for feature in needed { #expect(Self.supports(feature)) }
        let uffd = pc_uffd_open_device()
        try #require(uffd >= 0)
        defer { close(uffd) }
        var supported: UInt64 = 0
        let answer = unsafe pc_uffd_handshake(uffd, 1 << 63, &supported)
        #expect(answer == -EINVAL)
        #expect(supported == 0)
    }

    @Test("the system call opens too, and in user mode without privilege", arguments: [0, 1])
    func systemCall(userModeOnly: Int32) {
        let uffd = pc_uffd_open_syscall(userModeOnly)
        #expect(uffd >= 0)
        if uffd >= 0 { close(uffd) }
    }

    @Test(
        "a page moves without a copy",
        .enabled(if: supports(PC_UFFD_FEATURE_MOVE), "needs Linux 6.8"))
    func move() throws {
        let memory = try RawMemory(memfd: -1, pages: 2)
        try memory.register(UInt64(PC_UFFD_MODE_MISSING.rawValue), pages: 0..<1)
        memory.store(77, page: 1)
        let reader = try memory.reader(page: 0)
        let event = try memory.event()
        #expect(event.address == memory.address(0))
        let moved = pc_uffd_move(
            memory.uffd, memory.address(0), memory.address(1), Self.page)
        #expect(moved == Int64(Self.page))
        #expect(reader.join() == 77)
        #expect(memory.load(page: 1) == 0, "the source is empty now")
        let again = pc_uffd_move(
            memory.uffd, memory.address(0), memory.address(1), Self.page)
        #expect(again == Int64(-EEXIST))
    }

    @Test("a protected page stops its writer until the protection is lifted")
    func writeProtect() throws {
        let memory = try RawMemory(memfd: -1, pages: 1)
        memory.store(1, page: 0)
        try memory.register(UInt64(PC_UFFD_MODE_WRITE_PROTECT.rawValue), pages: 0..<1)
        #expect(pc_uffd_writeprotect(memory.uffd, memory.address(0), Self.page, 1) == 0)
        let writer = try JoinableThread(name: "writer") { memory.store(2, page: 0) }
        let event = try memory.event()
        #expect(event.address == memory.address(0))
        #expect(event.flags & 2 != 0, "UFFD_PAGEFAULT_FLAG_WP")
        // ThreadSanitizer calls this a race; the protection is what keeps the writer behind it.
        #expect(memory.load(page: 0) == 1, "reading goes on")
        #expect(pc_uffd_writeprotect(memory.uffd, memory.address(0), Self.page, 0) == 0)
        writer.join()
        #expect(memory.load(page: 0) == 2)
        #expect(pc_uffd_unregister(memory.uffd, memory.address(0), Self.page) == 0)
        #expect(pc_uffd_writeprotect(memory.uffd, memory.address(0), Self.page, 1) == -ENOENT)
    }

    @Test(
        "a page that the memfd holds is mapped on demand",
        .enabled(if: supports(PC_UFFD_FEATURE_MINOR_SHMEM), "needs Linux 5.14"))
    func minorFault() throws {
        let memfd = unsafe pc_memfd_create("minor", 2 * Self.page)
        try #require(memfd >= 0)
        defer { close(memfd) }
        let writer = try RawMemory(memfd: memfd, pages: 2)
        let memory = try RawMemory(memfd: memfd, pages: 2)
        writer.store(99, page: 0)
        try memory.register(UInt64(PC_UFFD_MODE_MINOR.rawValue), pages: 0..<2)
        let reader = try memory.reader(page: 0)
        let event = try memory.event()
        #expect(event.address == memory.address(0))
        #expect(event.flags & 4 != 0, "UFFD_PAGEFAULT_FLAG_MINOR")
        let page = Self.page
        #expect(pc_uffd_continue(memory.uffd, memory.address(0), page) == Int64(page))
        #expect(reader.join() == 99)
        #expect(pc_uffd_continue(memory.uffd, memory.address(0), page) == Int64(-EEXIST))
        #expect(pc_uffd_continue(memory.uffd, memory.address(1), page) == Int64(-EFAULT))
    }

    @Test("a descriptor without handshake, and one that is none, are refused")
    func refusals() throws {
        let uffd = pc_uffd_open_device()
        try #require(uffd >= 0)
        defer { close(uffd) }
        var ioctls: UInt64 = 0
        #expect(unsafe pc_uffd_register(uffd, 0, Self.page, 1, &ioctls) == -EINVAL)
        #expect(unsafe pc_uffd_register(-1, 0, Self.page, 1, &ioctls) == -EBADF)
        #expect(pc_uffd_wake(-1, 0, Self.page) == -EBADF)
        #expect(pc_uffd_zeropage(-1, 0, Self.page) == Int64(-EBADF))
        #expect(pc_uffd_move(-1, 0, 0, Self.page) == Int64(-EBADF))
    }
}

/// Mapped pages and a userfaultfd, by the shims alone.
private final class RawMemory: Sendable {
    let uffd: Int32
    private let start: UInt64
    private let length: UInt64

    private static let wanted = [
        PC_UFFD_FEATURE_PAGEFAULT_FLAG_WP, PC_UFFD_FEATURE_MISSING_SHMEM,
        PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_MINOR_SHMEM, PC_UFFD_FEATURE_MOVE,
    ].reduce(0) { $0 | UInt64($1.rawValue) }

    init(memfd: Int32, pages: Int) throws {
        length = UInt64(pages) * UserfaultfdShimTests.page
        let mapped = pc_map(memfd, length, UserfaultfdShimTests.page)
        try #require(mapped > 0)
        start = UInt64(mapped)
        uffd = pc_uffd_open_device()
        try #require(uffd >= 0)
        var features: UInt64 = 0
        let wanted = Self.wanted & UserfaultfdShimTests.supported
        try #require(unsafe pc_uffd_handshake(uffd, wanted, &features) == 0)
        try #require(pc_advise(start, length, PC_ADVICE_NO_HUGE_PAGES) == 0)
    }

    deinit {
        close(uffd)
        _ = pc_unmap(start, length)
    }

    func address(_ page: Int) -> UInt64 { start + UInt64(page) * UserfaultfdShimTests.page }

    func register(_ modes: UInt64, pages: Range<Int>) throws {
        var ioctls: UInt64 = 0
        let length = UInt64(pages.count) * UserfaultfdShimTests.page
        let answer = unsafe pc_uffd_register(
            uffd, address(pages.lowerBound), length, modes, &ioctls)
        try #require(answer == 0)
        #expect(ioctls != 0)
    }

    func load(page: Int) -> UInt64 { unsafe pointer(page).pointee }
    func store(_ value: UInt64, page: Int) { unsafe pointer(page).pointee = value }

    /// A thread that reads the first word of a page.
    func reader(page: Int) throws -> JoinableThread<UInt64> {
        try JoinableThread(name: "reader") { self.load(page: page) }
    }

    /// The next fault; ends every wait in this memory when none comes.
    func event() throws -> pc_uffd_event {
        var entry = pollfd(fd: uffd, events: Int16(POLLIN), revents: 0)
        var event = pc_uffd_event()
        if unsafe pc_poll(&entry, 1, HostUnderTest.patienceNanoseconds) == 1,
            unsafe pc_uffd_read(uffd, &event, 1) == 1
        {
            #expect(event.kind == UInt8(PC_UFFD_EVENT_PAGEFAULT))
            #expect(event.thread != 0)
        } else {
            Issue.record("no fault came")
            _ = pc_uffd_unregister(uffd, start, length)
        }
        return event
    }

    private func pointer(_ page: Int) -> UnsafeMutablePointer<UInt64> {
        unsafe UnsafeMutablePointer(bitPattern: UInt(address(page)))!
    }
}
