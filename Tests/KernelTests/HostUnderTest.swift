import Glibc
import LinuxKernel
import PageModel
import Testing

/// What the tests ask of the machine that they run on.
enum HostUnderTest {
    /// How long a test waits for what must come; only a defect or a dying machine exceeds it.
    static let patienceNanoseconds: UInt64 = 20_000_000_000

    static let hasUserfaultfd = (try? Userfaultfd.open(.userAndKernel)) != nil

    static let hasKVM = (try? KVMMachine.open()) != nil

    static let hasIPv6Loopback =
        (try? Listener(at: .tcp(host: "::1", port: 0))) != nil

    /// Root may raise the pool; the default huge page must be the one that the tests map.
    static let canRaiseHugePages: Bool =
        geteuid() == 0
        && readText("/proc/meminfo").contains("Hugepagesize:       2048 kB")
        && readText(HugePagePool.path).isEmpty == false

    /// Makes this process one that may lock no memory.
    static func giveUpLocking() throws {
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        try #require(unsafe setrlimit(Int32(__RLIMIT_MEMLOCK.rawValue), &none) == 0)
        // 65534 is nobody; with the identity goes CAP_IPC_LOCK.
        try #require(setuid(65_534) == 0)
    }

    /// The address space that this process has mapped.
    static var virtualBytes: UInt64? {
        // The first number of statm (proc(5)): pages.
        UInt64(readText("/proc/self/statm").prefix { $0.isNumber })
            .map { $0 * HostMemory.pageSize.bytes }
    }

    /// The whole of a text file of /proc or /sys, empty when there is none.
    static func readText(_ path: String) -> String {
        let raw = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return "" }
        defer { close(raw) }
        var text: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = unsafe read(raw, &chunk, chunk.count)
            guard count > 0 else { return String(decoding: text, as: UTF8.self) }
            text += chunk[..<count]
        }
    }

    /// The names in a folder.
    static func names(in path: String) -> [String] {
        guard let folder = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// The process's open descriptors: for exit tests, where nothing else runs.
    static var descriptorCount: Int { names(in: "/proc/self/fd").count }

    /// How many of the process's descriptors are open on the file at `path`, whatever else the process
    /// opens and closes meanwhile.
    static func descriptors(of path: String) -> Int {
        var file = stat()
        guard unsafe stat(path, &file) == 0 else { return 0 }
        return names(in: "/proc/self/fd").count { name in
            var open = stat()
            guard let raw = Int32(name), unsafe fstat(raw, &open) == 0 else { return false }
            return open.st_dev == file.st_dev && open.st_ino == file.st_ino
        }
    }

    /// A path in the temporary folder that no other test uses.
    static func temporaryPath(_ name: String) -> String {
        "/tmp/postcopy-tests-\(getpid())-\(UInt32.random(in: 0...(.max)))-\(name)"
    }
}

/// The host's pool of 2 MiB pages, raised for the time of a test and then put back.
enum HugePagePool {
    static let path = "/proc/sys/vm/nr_hugepages"

    /// Runs `body` with `count` huge pages more. Tests wait for each other here, those of other
    /// processes too, by locking the file that is changed.
    static func raised<Result>(by count: Int, _ body: () throws -> Result) throws -> Result {
        let lock = unsafe open(path, O_RDWR | O_CLOEXEC)
        try #require(lock >= 0)
        defer { close(lock) }
        try #require(flock(lock, LOCK_EX) == 0)
        let before = try #require(size())
        try write(before + count)
        defer { try? write(max(0, (size() ?? before) - count)) }
        try #require(size() == before + count, "the host has no free memory for huge pages")
        return try body()
    }

    private static func size() -> Int? {
        Int(HostUnderTest.readText(path).prefix { $0.isNumber })
    }

    private static func write(_ count: Int) throws {
        let raw = unsafe open(path, O_WRONLY | O_CLOEXEC)
        try #require(raw >= 0)
        defer { close(raw) }
        let text = Array("\(count)".utf8)
        try #require(unsafe Glibc.write(raw, text, text.count) == text.count)
    }
}
