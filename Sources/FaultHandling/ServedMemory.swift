internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// A run of memory that is served: a RAM block of this process, or a region of another.
struct ServedRegion: PageTarget {
    let geometry: BlockGeometry
    let address: HostAddress
    let placingUnit: PageSize
    /// Whether the kernel has a page of zeros for it: not for hugetlb.
    let hasZeroPage: Bool
    /// Kept alive while its pages are placed; `nil` for another process's memory.
    let ram: GuestRAM?
    /// The pages that are served: the part of a resizable block that is used.
    let pages: Range<HostPageIndex>

    init(_ ram: GuestRAM) {
        geometry = ram.geometry
        address = ram.address
        placingUnit = ram.placingUnit
        hasZeroPage = ram.backing != .hugetlb
        self.ram = ram
        let used = Int(ram.usedBytes >> UInt64(geometry.hostPage.shift))
        pages = HostPageIndex(rawValue: 0)..<HostPageIndex(rawValue: used)
    }

    init(_ region: ForeignRegion) {
        geometry = region.geometry
        address = region.address
        placingUnit = region.placingUnit
        hasZeroPage = region.placingUnit == HostMemory.pageSize
        ram = nil
        pages = geometry.hostPages
    }

    var end: HostAddress {
        HostAddress(rawValue: address.rawValue + geometry.lengthBytes)
    }

    var pageCount: Int { pages.upperBound.rawValue - pages.lowerBound.rawValue }

    func pageBytes(_ count: Int = 1) -> Int { count << geometry.hostPage.shift }
}

/// The memory of one handler and the userfaultfd that reports it.
final class ServedMemory: Sendable {
    let uffd: Userfaultfd
    let regions: [ServedRegion]
    /// Places in `regions`, by address.
    private let order: [Int]
    /// Whether memory of this process is registered here: what another handler or migration has registered
    /// must be left alone.
    private let isRegistered = Atomic(false)

    init(_ uffd: consuming Userfaultfd, _ regions: [ServedRegion]) {
        self.uffd = uffd
        self.regions = regions
        order = regions.indices.sorted { regions[$0].address < regions[$1].address }
    }

    var geometries: [BlockGeometry] { regions.map(\.geometry) }
    var isForeign: Bool { regions[0].ram == nil }

    /// The page that holds an address, or `nil` when no region does.
    func page(at address: HostAddress) -> HostPage? {
        guard let index = firstRegion(endingAfter: address), regions[index].address <= address
        else { return nil }
        let region = regions[index]
        let offset = RAMOffset(rawValue: address.rawValue - region.address.rawValue)
        return HostPage(
            block: BlockIndex(rawValue: index), page: region.geometry.hostPage(containing: offset))
    }

    /// The parts of regions that a range of addresses covers.
    func parts(of range: Range<HostAddress>) -> [(block: BlockIndex, bytes: Range<UInt64>)] {
        regions.enumerated().compactMap { index, region in
            let start = max(range.lowerBound, region.address)
            let end = min(range.upperBound, region.end)
            guard start < end else { return nil }
            let base = region.address.rawValue
            return (BlockIndex(rawValue: index), start.rawValue - base..<end.rawValue - base)
        }
    }

    private func firstRegion(endingAfter address: HostAddress) -> Int? {
        var (lower, upper) = (0, order.count)
        while lower < upper {
            let middle = (lower + upper) / 2
            if regions[order[middle]].end > address { upper = middle } else { lower = middle + 1 }
        }
        return lower < order.count ? order[lower] : nil
    }

    /// Takes memory of this process for the handler and registers it; another's is registered by its owner.
    func register() throws(FaultHandlerError) {
        try take()
        for (index, region) in regions.enumerated() {
            guard let ram = region.ram else { continue }
            ram.freezeLength()
            do throws(Errno) { try uffd.register(ram) } catch {
                ram.thawLength()
                for earlier in regions[..<index] { leave(earlier) }
                giveBack()
                throw .registering(block: ram.geometry.name, error)
            }
            // A huge page would be placed where one small page was missing. Not before: memory that somebody
            // else has registered stays as it is.
            ram.avoidHugePages()
        }
        isRegistered.store(true, ordering: .releasing)
    }

    /// All or nothing: a migration would drop what is served, and another handler would change its length.
    private func take() throws(FaultHandlerError) {
        for (index, region) in regions.enumerated() {
            guard let ram = region.ram, !ram.take() else { continue }
            for earlier in regions[..<index] { earlier.ram?.giveBack() }
            throw .memoryInUse(block: ram.geometry.name)
        }
    }

    /// Lets others have memory of this process that was registered, once nothing is asked of it any more.
    func giveBack() { for region in regions { region.ram?.giveBack() } }

    /// Whoever waits for a page goes on; what is missing reads as zeros.
    func unregister() {
        guard isRegistered.exchange(false, ordering: .acquiringAndReleasing) || isForeign else {
            return
        }
        for region in regions { leave(region) }
    }

    /// Whether there is anything to unregister.
    var isServed: Bool { isForeign || isRegistered.load(ordering: .acquiring) }

    private func leave(_ region: ServedRegion) {
        uffd.release(region)
        region.ram?.allowHugePages()
        region.ram?.thawLength()
    }

    /// Whether somebody who gives up pages has not yet gone on.
    var hasEventsUnderWay: Bool { uffd.hasEventsUnderWay(regions[0]) }

    /// Whether the process whose memory this is has gone.
    var isOwnerGone: Bool { isForeign && uffd.isOwnerGone(regions[0]) }
}
