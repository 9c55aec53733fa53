import CShims
import Glibc
import LinuxKernel
import PageModel
import Testing

/// Memory whose writes are tracked, of every kind that the kernel protects in its own way.
enum TrackedMemory: String, CaseIterable {
    /// Pages of the system's size, each touched.
    case anonymous
    /// The same, with no page and no page table yet.
    case untouched
    /// Private memory under transparent huge pages.
    case transparentHuge
    case memfd
    /// 2 MiB pages, each touched.
    case hugetlb

    /// Those that this machine has.
    static let present = allCases.filter { kind in
        switch kind {
        case .anonymous, .untouched, .memfd: true
        case .transparentHuge: hasTransparentHugePages
        case .hugetlb: HostUnderTest.canRaiseHugePages
        }
    }

    static let hasTransparentHugePages: Bool = {
        let text = HostUnderTest.readText("/sys/kernel/mm/transparent_hugepage/enabled")
        return !text.isEmpty && !text.contains("[never]")
    }()

    /// Whether this kernel can track at all, as a tracker of one page says.
    static let canTrack: Bool = {
        guard let ram = try? ram(.anonymous, named: "probe", bytes: HostMemory.pageSize.bytes)
        else {
            return false
        }
        return (try? WriteProtectTracker([ram]).check()) != nil
    }()

    /// How many target pages are written by the writing of one byte.
    var unit: Int {
        self == .hugetlb ? PageSize.size2MiB.targetPages : HostMemory.pageSize.targetPages
    }

    static func ram(_ backing: RAMBacking, named name: String, bytes: UInt64) throws -> GuestRAM {
        let page = backing == .hugetlb ? PageSize.size2MiB : HostMemory.pageSize
        return try GuestRAM(
            BlockGeometry(name: name, lengthBytes: bytes, hostPage: page), backing: backing)
    }

    /// Runs `body` on a block of at least two huge pages.
    func with<Result>(_ body: (GuestRAM) throws -> Result) throws -> Result {
        switch self {
        case .hugetlb:
            let pages: UInt64 = 8
            return try HugePagePool.raised(by: Int(pages)) {
                let ram = try Self.ram(
                    .hugetlb, named: rawValue, bytes: pages * PageSize.size2MiB.bytes)
                touch(ram)
                return try body(ram)
            }
        case .transparentHuge:
            let ram = try Self.ram(.anonymous, named: rawValue, bytes: 4 * PageSize.size2MiB.bytes)
            try #require(adviseHugePages(ram))
            touch(ram)
            try #require(isHuge(ram), "the host has no free memory for huge pages")
            return try body(ram)
        case .anonymous, .untouched, .memfd:
            let ram = try Self.ram(
                self == .memfd ? .memfd : .anonymous, named: rawValue,
                bytes: 2 * PageSize.size2MiB.bytes)
            ram.avoidHugePages()
            if self != .untouched { touch(ram) }
            return try body(ram)
        }
    }

    private func touch(_ ram: GuestRAM) {
        for page in 0..<ram.geometry.hostPageCount {
            ram.storeWord(1, at: ram.geometry.offset(of: HostPageIndex(rawValue: page)).rawValue)
        }
    }

    private func adviseHugePages(_ ram: GuestRAM) -> Bool {
        let start = unsafe UnsafeMutableRawPointer(bitPattern: UInt(ram.address.rawValue))
        return unsafe madvise(start, Int(ram.geometry.lengthBytes), MADV_HUGEPAGE) == 0
    }

    private func isHuge(_ ram: GuestRAM) -> Bool {
        Self.bytes(of: ram, with: PC_PAGE_HUGE) >= 2 * PageSize.size2MiB.bytes
    }

    /// How many bytes of a block lie in pages of a category. It must fit into 4096 runs.
    static func bytes(of ram: GuestRAM, with category: pc_page_category) -> UInt64 {
        let pageMap = pc_pagemap_open()
        guard pageMap >= 0 else { return 0 }
        defer { close(pageMap) }
        var runs = [pc_page_run](repeating: pc_page_run(), count: 4096)
        let start = ram.address.rawValue
        let end = start + ram.geometry.lengthBytes
        var walkEnd: UInt64 = 0
        let count = unsafe pc_pagemap_scan(
            pageMap, start, end, UInt64(category.rawValue), 0, &runs, runs.count, &walkEnd)
        guard count >= 0, walkEnd == end else { return 0 }
        return runs[..<Int(count)].reduce(0) { $0 + $1.end - $1.start }
    }
}

extension DirtyBitmap {
    /// Every dirty page; none is dirty afterwards.
    func takeAll() -> Set<Int> {
        var pages: Set<Int> = []
        while let run = takeRun(from: 0, countMax: 64) { pages.formUnion(run) }
        return pages
    }
}
