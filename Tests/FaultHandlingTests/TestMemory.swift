import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

enum Host {
    static let hasUserfaultfd = (try? Userfaultfd.open(.userAndKernel)) != nil

    /// The kernel that says of a page that it is lost.
    static let hasPoison: Bool = {
        let release = text("/proc/sys/kernel/osrelease").split(separator: ".").prefix(2)
        let version = release.compactMap { Int($0.prefix { $0.isNumber }) }
        return !version.lexicographicallyPrecedes([6, 6])
    }()

    /// Root may raise the pool; the default huge page must be the one that the tests map.
    static let canRaiseHugePages =
        geteuid() == 0 && text("/proc/meminfo").contains("Hugepagesize:       2048 kB")

    /// hugetlb needs a pool that only root can raise.
    static let backings = RAMBacking.allCases.filter { $0 != .hugetlb || canRaiseHugePages }

    static func temporaryPath(_ name: String) -> String {
        "/tmp/postcopy-tests-\(getpid())-\(UInt32.random(in: 0...(.max)))-\(name)"
    }

    /// The whole of a text file of /proc, empty when there is none.
    static func text(_ path: String) -> String {
        guard let file = unsafe fopen(path, "r") else { return "" }
        defer { _ = unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}

/// The host's pool of 2 MiB pages, raised for the time of a test and then put back. Tests wait for each
/// other here, those of other processes too, by locking the file that is changed.
enum HugePagePool {
    private static let path = "/proc/sys/vm/nr_hugepages"

    static func raised<Result>(by count: Int, _ body: () throws -> Result) throws -> Result {
        let lock = unsafe open(path, O_RDWR | O_CLOEXEC)
        try #require(lock >= 0)
        defer { close(lock) }
        try #require(flock(lock, LOCK_EX) == 0)
        let before = size()
        write(before + count)
        defer { write(max(0, size() - count)) }
        try #require(size() == before + count, "the host has no free memory for huge pages")
        return try body()
    }

    private static func size() -> Int { Int(Host.text(path).prefix { $0.isNumber }) ?? 0 }

    private static func write(_ count: Int) {
        guard let file = unsafe fopen(path, "w") else { return }
        _ = unsafe fputs("\(count)\n", file)
        _ = unsafe fclose(file)
    }
}

/// What a RAM block of a test consists of.
struct BlockPlan: Sendable {
    let backing: RAMBacking
    let pages: Int

    var pageSize: PageSize { backing == .hugetlb ? .size2MiB : HostMemory.pageSize }
}

/// Runs `body` with memory that nobody has touched.
@discardableResult
func withMemory<Result>(
    _ plans: [BlockPlan], _ body: ([GuestRAM]) throws -> Result
) throws -> Result {
    func start() throws -> Result {
        try body(
            plans.enumerated().map { index, plan in
                let geometry = try BlockGeometry(
                    name: "block \(index)",
                    lengthBytes: UInt64(plan.pages) * plan.pageSize.bytes,
                    hostPage: plan.pageSize)
                return try GuestRAM(geometry, backing: plan.backing)
            })
    }
    let huge = plans.filter { $0.backing == .hugetlb }.reduce(0) { $0 + $1.pages }
    return huge > 0 ? try HugePagePool.raised(by: huge, start) : try start()
}

@discardableResult
func withMemory<Result>(
    _ backing: RAMBacking = .anonymous, pages: Int, _ body: (GuestRAM) throws -> Result
) throws -> Result {
    try withMemory([BlockPlan(backing: backing, pages: pages)]) { try body($0[0]) }
}

extension GuestRAM {
    /// Whether the page's first and last word are those that `TestPages` gives, from every 4 KiB of it.
    func holdsContent(_ page: Int, block: Int = 0) -> Bool {
        words(ofPage: page).allSatisfy { $0.word == TestPages.word(block, $0.offset) }
    }

    func holdsZeros(_ page: Int) -> Bool { words(ofPage: page).allSatisfy { $0.word == 0 } }

    private func words(ofPage page: Int) -> [(offset: UInt64, word: UInt64)] {
        let start = geometry.offset(of: HostPageIndex(rawValue: page)).rawValue
        return stride(from: start, to: start + geometry.hostPage.bytes, by: 4096).flatMap { part in
            [part, part + 4088].map { ($0, loadWord(at: $0)) }
        }
    }

    func drop(pages: Range<Int>) throws {
        let page = geometry.hostPage.bytes
        try drop(
            from: RAMOffset(rawValue: UInt64(pages.lowerBound) * page),
            lengthBytes: UInt64(pages.count) * page)
    }
}

/// Runs `body` on a thread of its own: what waits for a page by mistake must not block the test's own.
/// Answers `nil` when it hangs.
func bounded<Output: Sendable>(_ body: @escaping @Sendable () -> Output) throws -> Output? {
    try Bounded("toucher", body).output()
}

func page(_ index: Int, block: Int = 0) -> HostPage {
    HostPage(block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: index))
}

/// Waits until something holds; answers `false` when it does not in time.
func atLast(_ condition: () -> Bool) -> Bool {
    let never = try? EventFlag()
    let deadline = Monotonic.now() + 20_000_000_000
    while !condition() {
        guard Monotonic.now() < deadline else { return false }
        _ = never?.wait(timeoutNanoseconds: 100_000)
    }
    return true
}

/// The kernel's ids of this process's threads.
func tasks() -> [Int] {
    guard let folder = unsafe opendir("/proc/self/task") else { return [] }
    defer { unsafe closedir(folder) }
    var ids: [Int] = []
    while let entry = unsafe readdir(folder) {
        let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if let id = Int(name) { ids.append(id) }
    }
    return ids
}
