/// Why a RAM block cannot be described.
public enum GeometryError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The wire names a block with one length byte, so 1 to 255 bytes of UTF-8.
    case nameLength(Int)
    /// A block of no bytes.
    case emptyBlock(name: String)
    /// A block that ends inside a host page.
    case notWholePages(name: String, lengthBytes: UInt64, pageBytes: UInt64)
    /// Offsets and lengths of a block are kept as signed counts of pages.
    case tooLong(name: String, lengthBytes: UInt64)

    public var description: String {
        switch self {
        case .nameLength(let length):
            "a RAM block's name must be 1 to 255 bytes, not \(length)"
        case .emptyBlock(let name):
            "RAM block '\(name)' is empty"
        case .notWholePages(let name, let length, let page):
            "RAM block '\(name)': \(length) bytes is no multiple of its page size \(page)"
        case .tooLong(let name, let length):
            "RAM block '\(name)': \(length) bytes is more than an address space holds"
        }
    }
}

/// A named run of guest RAM: its identity on the wire, its greatest length and its host page size.
///
/// Source: `RAMBlock` and its `max_length` of QEMU (`include/exec/ramblock.h`).
public struct BlockGeometry: Equatable, Sendable {
    /// `idstr` on the wire.
    public let name: String
    /// What is mapped and what bitmaps cover. The guest may use less of a block that is resizable.
    public let lengthBytes: UInt64
    /// The unit in which this block is requested, placed and dropped: the pages that it has, or has at
    /// the peer.
    public let hostPage: PageSize

    /// The longest block, 2^47 bytes: the user half of an x86_64 or aarch64 address space.
    public static let lengthBytesMax: UInt64 = 1 << 47

    /// A block of whole host pages.
    public init(
        name: String, lengthBytes: UInt64, hostPage: PageSize
    ) throws(GeometryError) {
        let nameLength = name.utf8.count
        guard (1...255).contains(nameLength) else { throw .nameLength(nameLength) }
        guard lengthBytes > 0 else { throw .emptyBlock(name: name) }
        guard lengthBytes <= Self.lengthBytesMax else {
            throw .tooLong(name: name, lengthBytes: lengthBytes)
        }
        guard hostPage.divides(lengthBytes) else {
            throw .notWholePages(
                name: name, lengthBytes: lengthBytes, pageBytes: hostPage.bytes)
        }
        self.name = name
        self.lengthBytes = lengthBytes
        self.hostPage = hostPage
    }

    /// Its length in the stream's pages.
    public var targetPageCount: Int { Int(lengthBytes >> UInt64(PageSize.target.shift)) }
    /// Its length in the kernel's pages.
    public var hostPageCount: Int { Int(lengthBytes >> UInt64(hostPage.shift)) }

    /// All host pages of the block.
    public var hostPages: Range<HostPageIndex> {
        HostPageIndex(rawValue: 0)..<HostPageIndex(rawValue: hostPageCount)
    }

    /// The host page that holds the byte at `offset`.
    /// - Precondition: `offset` is inside the block.
    public func hostPage(containing offset: RAMOffset) -> HostPageIndex {
        precondition(offset.rawValue < lengthBytes)
        return HostPageIndex(rawValue: Int(offset.rawValue >> UInt64(hostPage.shift)))
    }

    /// The first byte of a host page.
    public func offset(of page: HostPageIndex) -> RAMOffset {
        RAMOffset(rawValue: UInt64(page.rawValue) << UInt64(hostPage.shift))
    }

    /// The target pages that make up a host page.
    public func targetPages(of page: HostPageIndex) -> Range<Int> {
        let count = hostPage.targetPages
        return page.rawValue * count..<(page.rawValue + 1) * count
    }

    /// What a run of target pages covers: host pages of which it has all, and the at most two at its ends
    /// of which it has a part.
    /// - Precondition: the run is inside the block.
    public func hostPages(
        coveredBy targetPages: Range<Int>
    ) -> (whole: Range<HostPageIndex>, parts: [HostPageIndex]) {
        precondition(targetPages.lowerBound >= 0 && targetPages.upperBound <= targetPageCount)
        let count = hostPage.targetPages
        let first = (targetPages.lowerBound + count - 1) / count
        let end = max(first, targetPages.upperBound / count)
        var parts: [HostPageIndex] = []
        for edge in [targetPages.lowerBound / count, (targetPages.upperBound - 1) / count]
        where !targetPages.isEmpty && !(first..<end).contains(edge) {
            let page = HostPageIndex(rawValue: edge)
            if parts.last != page { parts.append(page) }
        }
        return (HostPageIndex(rawValue: first)..<HostPageIndex(rawValue: end), parts)
    }

    /// Whether `length` bytes from `start` lie inside the block; never overflows.
    public func contains(start: RAMOffset, lengthBytes length: UInt64) -> Bool {
        start.rawValue <= lengthBytes && length <= lengthBytes - start.rawValue
    }
}
