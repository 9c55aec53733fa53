internal import Glibc
public import PageModel

/// What this host says about its memory.
public enum HostMemory {
    /// The unit of anonymous and memfd mappings.
    public static var pageSize: PageSize {
        let bytes = sysconf(Int32(_SC_PAGESIZE))
        guard let size = PageSize(bytes: UInt64(bytes)) else {
            fatalError("page size \(bytes) is outside 4 KiB to 1 GiB")
        }
        return size
    }

    /// What one huge entry of anonymous and memfd mappings covers; `nil` on a host without
    /// transparent huge pages.
    public static let hugePageSize: PageSize? = SystemText.number(
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
    ).flatMap(PageSize.init(bytes:))

    /// The bytes that this process may lock without privilege (`RLIMIT_MEMLOCK`); `nil` for all.
    static var lockLimitBytes: UInt64? { limit(Int32(__RLIMIT_MEMLOCK.rawValue)) }

    /// What a resource of this process is limited to; `nil` for nothing.
    static func limit(_ resource: Int32) -> UInt64? {
        var limit = rlimit()
        guard unsafe getrlimit(resource, &limit) == 0 else { return nil }
        return limit.rlim_cur == .max ? nil : UInt64(limit.rlim_cur)
    }

    /// What a limit of locked memory means, and what helps.
    package static func lockRemedy(limitBytes: UInt64) -> String {
        "RLIMIT_MEMLOCK allows \(limitBytes): raise it (ulimit -l, LimitMEMLOCK= of a service) or "
            + "give CAP_IPC_LOCK"
    }

    /// Bytes that can be had without swapping, or `nil` when /proc does not say.
    public static var availableBytes: UInt64? {
        SystemText.field("MemAvailable", of: "/proc/meminfo").map { $0 << 10 }
    }
}

/// The host's pool of huge pages.
package enum HugePages {
    /// Where the kernel tells of the pool, and is told its size.
    package static func folder(of pageBytes: UInt64) -> String {
        "/sys/kernel/mm/hugepages/hugepages-\(pageBytes >> 10)kB"
    }

    /// How a pool gets more pages.
    package static func remedy(pageBytes: UInt64) -> String {
        "write a larger number to \(folder(of: pageBytes))/nr_hugepages"
    }

    /// Why `mmap` refused a hugetlb block, in words that help.
    static func refusal(of block: BlockGeometry, _ error: Errno) -> RAMError {
        let folder = folder(of: block.hostPage.bytes)
        guard let free = SystemText.number("\(folder)/free_hugepages") else {
            return .hugePageSizeUnknown(block: block.name, page: block.hostPage)
        }
        guard error == .noMemory else {
            return .mapping(block: block.name, lengthBytes: block.lengthBytes, error)
        }
        let reserved = SystemText.number("\(folder)/resv_hugepages") ?? 0
        return .tooFewHugePages(
            block: block.name, needed: block.hostPageCount,
            free: Int(free - min(free, reserved)), page: block.hostPage)
    }
}

/// Short text files of /proc and /sys.
enum SystemText {
    /// The longest file read here is /proc/meminfo, under 2 KiB on today's kernels.
    private static let lengthBytesMax = 16_384

    static func read(_ path: String) -> String? {
        let raw = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return nil }
        let file = FileDescriptor(owning: raw)
        var bytes = [UInt8](repeating: 0, count: lengthBytesMax)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            unsafe Glibc::read(file.raw, buffer.baseAddress, buffer.count)
        }
        guard count >= 0 else { return nil }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    /// The number that a file holds.
    static func number(_ path: String) -> UInt64? {
        read(path).flatMap { text in UInt64(text.prefix { $0.isNumber }) }
    }

    /// The first number behind `name:` in a file of such lines.
    static func field(_ name: String, of path: String, radix: Int = 10) -> UInt64? {
        guard let text = read(path) else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix("\(name):") {
            let value = line.dropFirst(name.count + 1).drop { $0 == " " || $0 == "\t" }
            return UInt64(value.prefix { $0.isHexDigit }, radix: radix)
        }
        return nil
    }
}
