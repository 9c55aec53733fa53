/// A virtual address of another process.
public struct ClientAddress: RawRepresentable, Hashable, Comparable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: ClientAddress, right: ClientAddress) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// A run of a RAM block as another process has it mapped.
public struct ClientRegion: Hashable, Sendable {
    /// Where the client has it.
    public let address: ClientAddress
    /// Whole pages of the block.
    public let lengthBytes: UInt64
    /// Whose memory it is.
    public let block: BlockIndex
    /// Where in the block its first byte is.
    public let offset: RAMOffset

    /// A run of a block, where the client has mapped it.
    public init(
        address: ClientAddress, lengthBytes: UInt64, block: BlockIndex, offset: RAMOffset
    ) {
        self.address = address
        self.lengthBytes = lengthBytes
        self.block = block
        self.offset = offset
    }

    /// Valid once the table has checked it: the sums stay below 2^64.
    fileprivate var end: UInt64 { address.rawValue + lengthBytes }
    fileprivate var offsetEnd: UInt64 { offset.rawValue + lengthBytes }
}

/// Where another process has mapped the RAM blocks, for both directions: its faults become offsets in
/// blocks, and placed pages its addresses.
///
/// Regions do not overlap in its addresses. In a block they may: what is mapped twice is found twice.
/// Source: `vhost_user_postcopy_fault_handler` and `vhost_user_postcopy_waker`
/// (`hw/virtio/vhost-user.c`).
public struct ClientTable: Sendable {
    /// By address.
    public let regions: [ClientRegion]
    /// By block and offset.
    private let byOffset: [ClientRegion]
    /// For each of `byOffset`: the highest end of those of its block up to it.
    private let reach: [UInt64]

    /// As many memory slots as a machine of QEMU has for vhost-user (`VHOST_USER_MAX_RAM_SLOTS`), and a
    /// few.
    public static let regionsMax = 512

    /// What a block must be to be mapped.
    public struct Block: Sendable {
        let name: String
        let lengthBytes: UInt64
        let placingUnit: PageSize

        /// - Parameter lengthBytes: what the guest uses of it.
        /// - Parameter placingUnit: what the kernel faults and places at once.
        public init(name: String, lengthBytes: UInt64, placingUnit: PageSize) {
            self.name = name
            self.lengthBytes = lengthBytes
            self.placingUnit = placingUnit
        }
    }

    /// - Parameter blocks: all RAM blocks, by their index.
    public init(_ regions: [ClientRegion], of blocks: [Block]) throws(ClientTableError) {
        guard !regions.isEmpty else { throw .empty }
        guard regions.count <= Self.regionsMax else { throw .tooManyRegions(regions.count) }
        for region in regions { try Self.check(region, blocks) }
        self.regions = regions.sorted { $0.address < $1.address }
        for (lower, upper) in zip(self.regions, self.regions.dropFirst())
        where lower.end > upper.address.rawValue {
            throw .overlap(lower.address, upper.address)
        }
        byOffset = regions.sorted { ($0.block, $0.offset) < ($1.block, $1.offset) }
        var reach: [UInt64] = []
        for (index, region) in byOffset.enumerated() {
            let isSameBlock = index > 0 && byOffset[index - 1].block == region.block
            reach.append(max(region.offsetEnd, isSameBlock ? reach[index - 1] : 0))
        }
        self.reach = reach
    }

    private static func check(
        _ region: ClientRegion, _ blocks: [Block]
    ) throws(ClientTableError) {
        guard blocks.indices.contains(region.block.rawValue) else {
            throw .noSuchBlock(region.block)
        }
        let block = blocks[region.block.rawValue]
        let unit = block.placingUnit
        guard region.lengthBytes > 0 else { throw .emptyRegion(region.address) }
        guard unit.divides(region.address.rawValue), unit.divides(region.lengthBytes),
            unit.divides(region.offset.rawValue)
        else { throw .unaligned(region.address, block: block.name, unit) }
        // The kernel's half begins at 2^63 at the latest, so that no sum overflows.
        guard region.address.rawValue < 1 << 63, region.lengthBytes < 1 << 63,
            region.address.rawValue + region.lengthBytes <= 1 << 63
        else { throw .beyondAddressSpace(region.address) }
        guard region.offset.rawValue <= block.lengthBytes,
            region.lengthBytes <= block.lengthBytes - region.offset.rawValue
        else {
            throw .beyondBlock(region.address, block: block.name, lengthBytes: block.lengthBytes)
        }
    }

    /// The region that holds an address.
    public func region(at address: ClientAddress) -> ClientRegion? {
        let next = Self.firstIndex(in: regions) { $0.address > address }
        guard next > 0, address.rawValue < regions[next - 1].end else { return nil }
        return regions[next - 1]
    }

    /// Calls `body` with each run of the process's addresses that maps a part of `offsets` of a block.
    public func forEachRange(
        of offsets: Range<UInt64>, in block: BlockIndex, _ body: (Range<ClientAddress>) -> Void
    ) {
        var index = Self.firstIndex(in: byOffset) {
            ($0.block, $0.offset.rawValue) >= (block, offsets.upperBound)
        }
        // Backwards, for as long as any region before may still reach so far.
        while index > 0, byOffset[index - 1].block == block,
            reach[index - 1] > offsets.lowerBound
        {
            index -= 1
            let region = byOffset[index]
            let lower = max(offsets.lowerBound, region.offset.rawValue)
            let upper = min(offsets.upperBound, region.offsetEnd)
            guard lower < upper else { continue }
            let start = region.address.rawValue + (lower - region.offset.rawValue)
            body(
                ClientAddress(rawValue: start)..<ClientAddress(rawValue: start + upper - lower))
        }
    }

    /// The first of sorted regions that `isBehind`, or the end, by bisection.
    private static func firstIndex(
        in regions: [ClientRegion], _ isBehind: (ClientRegion) -> Bool
    ) -> Int {
        var (low, high) = (0, regions.count)
        while low < high {
            let middle = low + (high - low) / 2
            if isBehind(regions[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// Why a process's map of guest memory cannot be.
public enum ClientTableError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no region.
    case empty
    /// There are more regions than a table has.
    case tooManyRegions(Int)
    /// A region is of a block that does not exist.
    case noSuchBlock(BlockIndex)
    /// A region has no page.
    case emptyRegion(ClientAddress)
    /// A region does not begin and end with a page of its block.
    case unaligned(ClientAddress, block: String, PageSize)
    /// A region ends behind the last address.
    case beyondAddressSpace(ClientAddress)
    /// A region ends behind its block, which is so long.
    case beyondBlock(ClientAddress, block: String, lengthBytes: UInt64)
    /// Two regions share addresses.
    case overlap(ClientAddress, ClientAddress)

    public var description: String {
        switch self {
        case .empty: "it maps nothing"
        case .tooManyRegions(let count):
            "it has \(count) regions, more than \(ClientTable.regionsMax)"
        case .noSuchBlock(let block): "there is no RAM block \(block.rawValue)"
        case .emptyRegion(let address): "the region at \(Self.hex(address)) is empty"
        case .unaligned(let address, let block, let unit):
            "the region at \(Self.hex(address)): address, length and offset must be multiples of the "
                + "\(unit.bytes) bytes that RAM block '\(block)' is faulted in"
        case .beyondAddressSpace(let address):
            "the region at \(Self.hex(address)) ends beyond every address space"
        case .beyondBlock(let address, let block, let length):
            "the region at \(Self.hex(address)) reaches beyond the \(length) bytes of RAM block "
                + "'\(block)'"
        case .overlap(let one, let other):
            "the regions at \(Self.hex(one)) and \(Self.hex(other)) overlap"
        }
    }

    private static func hex(_ address: ClientAddress) -> String {
        "0x" + String(address.rawValue, radix: 16)
    }
}
