import LinuxKernel
import PageModel
import Testing

/// A registered block, the descriptor that reports its faults, and threads that run into them.
struct FaultRig: ~Copyable {
    let ram: GuestRAM
    let uffd: Userfaultfd

    private init(_ ram: GuestRAM) throws {
        let uffd = try Userfaultfd.open(.userAndKernel)
        try uffd.register(ram)
        self.ram = ram
        self.uffd = uffd
    }

    static func pageSize(of backing: RAMBacking) -> PageSize {
        backing == .hugetlb ? .size2MiB : HostMemory.pageSize
    }

    /// Runs `body` on `pages` missing host pages.
    /// - Parameter hostPage: what the block is counted in; `nil` for the pages that it has.
    static func run(
        _ backing: RAMBacking, pages: Int, hostPage: PageSize? = nil,
        prepare: (GuestRAM) throws -> Void = { _ in },
        _ body: (borrowing FaultRig) throws -> Void
    ) throws {
        let page = hostPage ?? pageSize(of: backing)
        let geometry = try BlockGeometry(
            name: "rig-\(backing.rawValue)", lengthBytes: UInt64(pages) * page.bytes,
            hostPage: page)
        func start() throws {
            let ram = try GuestRAM(
                geometry, backing: backing, allowsLargerHostPages: hostPage != nil)
            ram.avoidHugePages()
            try prepare(ram)
            try body(FaultRig(ram))
        }
        if backing == .hugetlb {
            try HugePagePool.raised(by: pages, start)
        } else {
            try start()
        }
    }

    var pageBytes: Int { Int(ram.geometry.hostPage.bytes) }

    func offset(_ page: Int) -> RAMOffset { ram.geometry.offset(of: HostPageIndex(rawValue: page)) }

    /// The word that `staged` puts at the start of a page.
    static func word(_ page: Int) -> UInt64 { 0xABCD_0000_0000_0000 | UInt64(page) }

    /// Pages that begin and end with their number.
    func staged(_ pages: Range<Int>) -> StagingArea {
        let staging = StagingArea(capacityBytes: pages.count * pageBytes)
        staging.clear(at: 0, lengthBytes: staging.capacityBytes)
        for (place, page) in pages.enumerated() {
            let bytes = (0..<8).map { UInt8(truncatingIfNeeded: Self.word(page) >> ($0 * 8)) }
            for start in [place * pageBytes, (place + 1) * pageBytes - 8] {
                staging.write(bytes.span, 0..<8, at: start)
            }
        }
        return staging
    }

    /// Places the pages with the content of `staged`.
    func place(_ pages: Range<Int>) throws -> Placement {
        try uffd.place(
            staged(pages), lengthBytes: pages.count * pageBytes, at: offset(pages.lowerBound),
            of: ram)
    }

    /// The next `count` faults; fewer when they do not come in time.
    func events(_ count: Int) throws -> [FaultEvent] {
        var events: [FaultEvent] = []
        let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
        var poller = Poller(capacity: 1)
        poller.watch(uffd)
        while events.count < count, Monotonic.now() < deadline {
            if poller.wait(timeoutNanoseconds: deadline - Monotonic.now()) > 0 {
                _ = try uffd.readEvents { events.append($0) }
            }
        }
        return events
    }

    /// Starts a thread that reads a word of every page of `pages`.
    func touch(_ pages: [Int], byteInPage: UInt64 = 0) throws -> Toucher {
        let addresses = pages.map { offset($0).rawValue + byteInPage }
        return try Toucher(ram, at: addresses)
    }

    /// What the thread read; ends the test's wait by unregistering when it is not woken.
    func finish(_ toucher: consuming Toucher) throws -> [UInt64] {
        if !toucher.done.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds) {
            Issue.record("the thread was not woken")
            try uffd.unregister(ram)
        }
        return toucher.join()
    }

    /// Reads words on another thread: a page missing by mistake must not block the test's own.
    func read(_ pages: Range<Int>, byteInPage: UInt64 = 0) throws -> [UInt64] {
        try finish(touch(Array(pages), byteInPage: byteInPage))
    }
}

/// A guest thread that reads memory.
struct Toucher: ~Copyable {
    /// Raised when all was read.
    let done: EventFlag
    /// The kernel's id of the thread.
    let threadID: Int32
    private let thread: JoinableThread<[UInt64]>

    init(_ ram: GuestRAM, at offsets: [UInt64]) throws {
        let done = try EventFlag()
        let started = try EventFlag()
        let identity = Mailbox()
        let thread = try JoinableThread(name: "toucher") {
            identity.put(currentThreadID())
            started.raise()
            let words = offsets.map { ram.loadWord(at: $0) }
            done.raise()
            return words
        }
        started.wait()
        self.done = done
        self.thread = thread
        threadID = identity.value
    }

    consuming func join() -> [UInt64] { thread.join() }
}

/// Lets a noncopyable toucher stand in an array.
final class BlockedThread {
    let threadID: Int32
    private var toucher: Toucher?

    init(_ toucher: consuming Toucher) {
        threadID = toucher.threadID
        self.toucher = consume toucher
    }

    func take() -> Toucher {
        guard let toucher = toucher.take() else { fatalError("taken twice") }
        return toucher
    }
}
