internal import LinuxKernel
internal import PageModel
internal import PlainJSON

/// What Firecracker says of the memory whose missing pages another process is to bring, in the one
/// message that it sends when it resumes a microVM with the `Uffd` backend.
///
/// Layout: a JSON array of regions, each an object with `base_host_virt_addr` (an address of
/// Firecracker's process), `size` and `offset` (where its content begins in the memory file), in bytes,
/// and the size of its pages. That is `page_size` in bytes; before 1.10 it was `page_size_kib`, which
/// held bytes as well, whatever its name says, and is still sent beside the other; before 1.7 there was
/// none, and pages were the host's. What else stands in a region is passed over.
///
/// Source: `GuestRegionUffdMapping` of Firecracker (`src/vmm/src/persist.rs`) and its
/// `docs/snapshotting/handling-page-faults-on-snapshot-resume.md`.
public struct FirecrackerHandOff: Equatable, Sendable {
    /// In the order in which they were sent, and checked.
    public let regions: [ForeignRegion]

    /// A region takes some 130 bytes.
    public static let bytesMax = 64 << 10

    /// Reads a whole message and checks all that it says.
    /// - Throws: `HandOffError`, which names the region and the field. `isTruncated` of its `notJSON`
    ///   says that more bytes could make the message whole.
    public init(parsing message: [UInt8]) throws(HandOffError) {
        guard message.count <= Self.bytesMax else { throw .tooLong(maximum: Self.bytesMax) }
        let value: JSONValue
        do throws(JSONFault) { value = try JSONValue(parsing: message) } catch {
            throw .notJSON("\(error)", isTruncated: error.isTruncated)
        }
        guard case .list(let entries) = value else { throw .noList }
        var described: [ForeignRegionDescription] = []
        for (index, entry) in entries.enumerated() {
            described.append(try ForeignRegionDescription(handedOff: entry, region: index))
        }
        do throws(ForeignMemoryError) {
            regions = try ForeignMemory.checked(described)
        } catch { throw .memory(error) }
        try checkContent()
    }

    /// A memory file holds each region once. What is kept for each of its pages is bounded by the content
    /// only if no part of that is named again and again.
    private func checkContent() throws(HandOffError) {
        let order = regions.indices.sorted {
            regions[$0].contentOffset < regions[$1].contentOffset
        }
        for (first, second) in zip(order, order.dropFirst())
        where regions[first].contentEnd > regions[second].contentOffset {
            throw .sameContent(min(first, second), max(first, second))
        }
    }

    /// All of the memory.
    public var lengthBytes: UInt64 { regions.reduce(0) { $0 + $1.geometry.lengthBytes } }

    /// Whether the content has every region.
    /// - Throws: `HandOffError.beyondContent` for the first that it has not.
    public func check(contentBytes: UInt64) throws(HandOffError) {
        for (index, region) in regions.enumerated() {
            let end = region.contentEnd
            guard end <= contentBytes else {
                throw .beyondContent(region: index, end: end, contentBytes: contentBytes)
            }
        }
    }

    /// The regions as `ForeignMemory` takes them.
    var descriptions: [ForeignRegionDescription] {
        regions.map { region in
            ForeignRegionDescription(
                address: region.address.rawValue, lengthBytes: region.geometry.lengthBytes,
                contentOffset: region.contentOffset, pageBytes: region.geometry.hostPage.bytes)
        }
    }
}

extension ForeignRegion {
    fileprivate var contentEnd: UInt64 { contentOffset + geometry.lengthBytes }
}

extension ForeignRegionDescription {
    fileprivate init(handedOff value: JSONValue, region: Int) throws(HandOffError) {
        guard case .object(let fields) = value else { throw .noObject(region: region) }
        func number(_ key: String) throws(HandOffError) -> UInt64? {
            switch fields[key] {
            case nil: return nil
            case .number(let number): return number
            default: throw .noNumber(region: region, field: key)
            }
        }
        func needed(_ key: String) throws(HandOffError) -> UInt64 {
            guard let number = try number(key) else { throw .missing(region: region, field: key) }
            return number
        }
        self.init(
            address: try needed("base_host_virt_addr"), lengthBytes: try needed("size"),
            contentOffset: try needed("offset"),
            pageBytes: try Self.pageBytes(
                try number("page_size"), older: try number("page_size_kib"), region: region))
        guard PageSize.target.divides(contentOffset) else {
            throw .unalignedOffset(region: region, contentOffset)
        }
    }

    private static func pageBytes(
        _ bytes: UInt64?, older: UInt64?, region: Int
    ) throws(HandOffError) -> UInt64 {
        // No page is so small in bytes: a sender that takes the older field by its name.
        let olderBytes = older.map { $0 < PageSize.target.bytes ? $0 << 10 : $0 }
        if let bytes, let olderBytes, bytes != olderBytes {
            throw .twoPageSizes(region: region, bytes, olderBytes)
        }
        return bytes ?? olderBytes ?? HostMemory.pageSize.bytes
    }
}
