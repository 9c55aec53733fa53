internal import CShims
internal import Glibc

/// What memory this process can have.
package struct MemoryProbe: Equatable, Sendable {
    /// A pool of hugetlb pages.
    package struct Pool: Equatable, Sendable {
        package let pageBytes: UInt64
        package let total: UInt64
        /// Not reserved by anybody.
        package let free: UInt64
        /// What one page of it is refused with; `nil` when it was had.
        package let error: Errno?

        package init(pageBytes: UInt64, total: UInt64, free: UInt64, error: Errno?) {
            self.pageBytes = pageBytes
            self.total = total
            self.free = free
            self.error = error
        }
    }

    /// What a control group lets its processes have together.
    package struct GroupLimit: Equatable, Sendable {
        package let bytes: UInt64
        package let usedBytes: UInt64
        /// The file that sets it.
        package let file: String

        package init(bytes: UInt64, usedBytes: UInt64, file: String) {
            self.bytes = bytes
            self.usedBytes = usedBytes
            self.file = file
        }
    }

    package let pools: [Pool]
    /// The mode of transparent huge pages; `nil` on a host without them.
    package let transparent: String?
    /// What locking one page answers; `nil` when it was locked.
    package let lockError: Errno?
    /// The limits of this process; `nil` for none.
    package let lockLimitBytes: UInt64?
    package let addressLimitBytes: UInt64?
    package let descriptorLimit: UInt64?
    package let groupLimit: GroupLimit?
    /// `vm.overcommit_memory`; `nil` when /proc does not say.
    package let overcommit: UInt64?
    package let availableBytes: UInt64?

    package init(
        pools: [Pool], transparent: String?, lockError: Errno?, lockLimitBytes: UInt64?,
        addressLimitBytes: UInt64?, descriptorLimit: UInt64?, groupLimit: GroupLimit?,
        overcommit: UInt64?, availableBytes: UInt64?
    ) {
        self.pools = pools
        self.transparent = transparent
        self.lockError = lockError
        self.lockLimitBytes = lockLimitBytes
        self.addressLimitBytes = addressLimitBytes
        self.descriptorLimit = descriptorLimit
        self.groupLimit = groupLimit
        self.overcommit = overcommit
        self.availableBytes = availableBytes
    }

    package static func probe() -> MemoryProbe {
        let locked = pc_probe_lock()
        let modes = SystemText.read("/sys/kernel/mm/transparent_hugepage/enabled")
        return MemoryProbe(
            pools: pools(), transparent: modes.flatMap(chosen),
            lockError: locked < 0 ? Errno(rawValue: -locked) : nil,
            lockLimitBytes: HostMemory.lockLimitBytes,
            addressLimitBytes: HostMemory.limit(Int32(RLIMIT_AS.rawValue)),
            descriptorLimit: HostMemory.limit(Int32(RLIMIT_NOFILE.rawValue)),
            groupLimit: MemoryGroup.limit(
                groups: SystemText.read("/proc/self/cgroup") ?? "", number: SystemText.number),
            overcommit: SystemText.number("/proc/sys/vm/overcommit_memory"),
            availableBytes: HostMemory.availableBytes)
    }

    /// The word in brackets, as in "always [madvise] never".
    package static func chosen(_ modes: String) -> String? {
        guard let start = modes.firstIndex(of: "["), let end = modes.firstIndex(of: "]") else {
            return nil
        }
        return start < end ? String(modes[modes.index(after: start)..<end]) : nil
    }

    private static func pools() -> [Pool] {
        // What x86_64 and aarch64 have, with pages of 4, 16 and 64 KiB.
        let shifts: [Int32] = [16, 21, 25, 29, 30, 34]
        return shifts.compactMap { shift in
            let bytes = UInt64(1) << UInt64(shift)
            let folder = HugePages.folder(of: bytes)
            guard let free = SystemText.number("\(folder)/free_hugepages") else { return nil }
            let reserved = SystemText.number("\(folder)/resv_hugepages") ?? 0
            let address = pc_map_huge(bytes, shift)
            // Reserved, and never touched.
            if address >= 0 { _ = pc_unmap(UInt64(address), bytes) }
            return Pool(
                pageBytes: bytes, total: SystemText.number("\(folder)/nr_hugepages") ?? 0,
                free: free - min(free, reserved),
                error: address < 0 ? Errno(rawValue: Int32(-address)) : nil)
        }
    }
}

/// The control group of this process, of either kind.
package enum MemoryGroup {
    /// A group without a limit says a number close to this (v1), or none at all (v2).
    private static let limitBytesMax: UInt64 = 1 << 60

    /// The tightest limit of the group and those above it.
    /// - Parameters:
    ///   - groups: what /proc/self/cgroup says.
    ///   - number: the number in a file, `nil` where there is none.
    package static func limit(
        groups: String, number: (String) -> UInt64?
    ) -> MemoryProbe.GroupLimit? {
        var best: MemoryProbe.GroupLimit?
        for line in groups.split(separator: "\n") {
            let parts = line.split(
                separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
            guard parts.count == 3 else { continue }
            let isUnified = parts[1].isEmpty
            guard isUnified || parts[1].split(separator: ",").contains("memory") else { continue }
            let roots =
                isUnified
                ? ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] : ["/sys/fs/cgroup/memory"]
            let (limit, used) =
                isUnified
                ? ("memory.max", "memory.current")
                : ("memory.limit_in_bytes", "memory.usage_in_bytes")
            for folder in roots.flatMap({ folders($0, String(parts[2])) }) {
                guard let bytes = number("\(folder)/\(limit)"), bytes < limitBytesMax,
                    bytes < best?.bytes ?? .max
                else { continue }
                best = MemoryProbe.GroupLimit(
                    bytes: bytes, usedBytes: number("\(folder)/\(used)") ?? 0,
                    file: "\(folder)/\(limit)")
            }
        }
        return best
    }

    /// The group's folder and those above it. A container may see a part of the path only: what is not
    /// there sets no limit.
    private static func folders(_ root: String, _ path: String) -> [String] {
        var names = path.split(separator: "/").filter { $0 != ".." }
        var folders: [String] = []
        while true {
            folders.append(([root[...]] + names).joined(separator: "/"))
            guard names.popLast() != nil else { return folders }
        }
    }
}
