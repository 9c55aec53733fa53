public import LinuxKernel
public import PageModel

/// Memory of another process that a userfaultfd reports, at its addresses there.
public struct ForeignRegion: PageTarget, Equatable {
    /// In the other process.
    public let address: HostAddress
    /// Named by the region's place: "region 0".
    public let geometry: BlockGeometry
    /// Where the region's content begins in what it was saved to.
    public let contentOffset: UInt64

    /// The kernel faults and places whole pages of the region's kind.
    public var placingUnit: PageSize { geometry.hostPage }
}

/// What another process says of a region of its memory, as it stands: nothing is checked yet.
public struct ForeignRegionDescription: Equatable, Sendable {
    /// Where it begins in its owner.
    public var address: UInt64
    /// Whole pages.
    public var lengthBytes: UInt64
    /// Where its content begins, in bytes.
    public var contentOffset: UInt64
    /// What its memory consists of: the system's pages, or those of hugetlb.
    public var pageBytes: UInt64

    /// A run of memory and of content.
    public init(address: UInt64, lengthBytes: UInt64, contentOffset: UInt64, pageBytes: UInt64) {
        self.address = address
        self.lengthBytes = lengthBytes
        self.contentOffset = contentOffset
        self.pageBytes = pageBytes
    }
}

/// Memory of another process and the userfaultfd that it handed over.
///
/// The other process has opened the userfaultfd, shaken hands, and registered every region for missing
/// pages. It may have asked for thread ids, without which waits are not told apart by thread; and for
/// notice of removed and unmapped pages, which read as zeros from then on. Without that notice a page
/// that it gives up has the provider's content again when it is next touched, and zeros once nobody
/// serves it. `MADV_DONTNEED` of shared memory gives up nothing that is there, but the kernel tells of it
/// all the same: what of it was missing then reads as zeros.
public struct ForeignMemory: ~Copyable, Sendable {
    let uffd: Userfaultfd
    /// In the order in which they were described.
    public let regions: [ForeignRegion]

    /// More than any machine has memory slots for, and few enough to be searched for each fault.
    public static let regionsMax = 1_024

    /// - Throws: the first thing that is wrong with a region, or with the descriptor.
    public init(
        userfaultfd: consuming FileDescriptor, regions: [ForeignRegionDescription]
    ) throws(ForeignMemoryError) {
        let checked = try Self.checked(regions)
        uffd = try Self.received(userfaultfd)
        self.regions = checked
    }

    private static func received(
        _ descriptor: consuming FileDescriptor
    ) throws(ForeignMemoryError) -> Userfaultfd {
        do { return try Userfaultfd(receiving: descriptor) } catch { throw .descriptor(error) }
    }

    consuming func takeDescriptor() -> Userfaultfd { uffd }

    /// Checks what another process says of its regions, without its descriptor.
    public static func checked(
        _ descriptions: [ForeignRegionDescription]
    ) throws(ForeignMemoryError) -> [ForeignRegion] {
        guard !descriptions.isEmpty else { throw .noRegion }
        guard descriptions.count <= regionsMax else {
            throw .tooManyRegions(count: descriptions.count)
        }
        var regions: [ForeignRegion] = []
        for (index, description) in descriptions.enumerated() {
            regions.append(try ForeignRegion(description, index: index))
        }
        if let (first, second) = regions.firstOverlap() {
            throw .overlap(min(first, second), max(first, second))
        }
        return regions
    }
}

extension ForeignRegion {
    /// No process has more: five levels of page tables translate 57 bits, and half of that is the kernel's.
    private static var userBytesMax: UInt64 { 1 << 56 }

    fileprivate init(
        _ description: ForeignRegionDescription, index: Int
    ) throws(ForeignMemoryError) {
        let (address, length) = (description.address, description.lengthBytes)
        guard let page = PageSize(bytes: description.pageBytes), page >= HostMemory.pageSize else {
            throw .pageSize(region: index, bytes: description.pageBytes)
        }
        guard page.divides(address), page.divides(length), length > 0 else {
            throw .unaligned(
                region: index, address: address, lengthBytes: length, pageBytes: page.bytes)
        }
        // No sum of what is allowed can overflow.
        guard length <= BlockGeometry.lengthBytesMax, address <= Self.userBytesMax - length,
            description.contentOffset < 1 << 62
        else {
            throw .beyondRange(region: index, address: address, lengthBytes: length)
        }
        do throws(GeometryError) {
            geometry = try BlockGeometry(
                name: "region \(index)", lengthBytes: length, hostPage: page)
        } catch {
            throw .beyondRange(region: index, address: address, lengthBytes: length)
        }
        self.address = HostAddress(rawValue: address)
        contentOffset = description.contentOffset
    }
}

/// Why another process's memory cannot be served as it describes it.
public enum ForeignMemoryError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no region.
    case noRegion
    /// There are more than this library serves.
    case tooManyRegions(count: Int)
    /// A page size that no kernel here has.
    case pageSize(region: Int, bytes: UInt64)
    /// It does not begin or end with a page.
    case unaligned(region: Int, address: UInt64, lengthBytes: UInt64, pageBytes: UInt64)
    /// It reaches beyond all addresses, or all content.
    case beyondRange(region: Int, address: UInt64, lengthBytes: UInt64)
    /// Two regions share addresses.
    case overlap(Int, Int)
    /// What was handed over is no userfaultfd that can be used.
    case descriptor(ReceivedUserfaultfdError)

    public var description: String {
        switch self {
        case .noRegion:
            "no region of memory was described"
        case .tooManyRegions(let count):
            "\(count) regions of memory were described, at most \(ForeignMemory.regionsMax) are served"
        case .pageSize(let region, let bytes):
            "region \(region): pages of \(bytes) bytes; a page is a power of two from "
                + "\(HostMemory.pageSize.bytes) to \(PageSize.size1GiB.bytes) bytes"
        case .unaligned(let region, let address, let length, let page):
            "region \(region): \(length) bytes at address \(address) are not whole pages of \(page) "
                + "bytes"
        case .beyondRange(let region, let address, let length):
            "region \(region): \(length) bytes at address \(address) are beyond what an address "
                + "space or a file holds"
        case .overlap(let first, let second):
            "regions \(first) and \(second) overlap"
        case .descriptor(let error):
            error.description
        }
    }
}
