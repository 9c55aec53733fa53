/// A byte position inside one RAM block, counted from its first byte.
public struct RAMOffset: RawRepresentable, Hashable, Comparable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: RAMOffset, right: RAMOffset) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// A virtual address of this process.
public struct HostAddress: RawRepresentable, Hashable, Comparable, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static func < (left: HostAddress, right: HostAddress) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// The place of a RAM block in the block list, which both sides hold in the same order.
public struct BlockIndex: RawRepresentable, Hashable, Comparable, Sendable {
    public let rawValue: Int

    public init(rawValue: Int) { self.rawValue = rawValue }

    public static func < (left: BlockIndex, right: BlockIndex) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// The place of a host page (the unit that the kernel faults and places) in its block.
public struct HostPageIndex: RawRepresentable, Hashable, Comparable, Sendable {
    public let rawValue: Int

    public init(rawValue: Int) { self.rawValue = rawValue }

    public static func < (left: HostPageIndex, right: HostPageIndex) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// A host page of a named block: what faults, what is requested and what is placed.
public struct HostPage: Hashable, Sendable {
    /// The block that it is in.
    public let block: BlockIndex
    /// Which page of that.
    public let page: HostPageIndex

    /// A page of a block, which need not exist.
    public init(block: BlockIndex, page: HostPageIndex) {
        self.block = block
        self.page = page
    }
}

/// The size of a page: a power of two, no smaller than a target page.
public struct PageSize: Hashable, Comparable, Sendable {
    /// The binary logarithm of the size.
    public let shift: Int

    /// The unit of the stream. It is 4096 bytes for every guest that this library serves; the flags
    /// of a page record live below it.
    public static let target = PageSize(shift: 12)
    /// 2 MiB.
    public static let size2MiB = PageSize(shift: 21)
    /// 1 GiB.
    public static let size1GiB = PageSize(shift: 30)

    private init(shift: Int) { self.shift = shift }

    /// `nil` unless `bytes` is a power of two between 4 KiB and 1 GiB, the range that hosts offer.
    public init?(bytes: UInt64) {
        guard bytes.nonzeroBitCount == 1 else { return nil }
        let shift = bytes.trailingZeroBitCount
        guard (12...30).contains(shift) else { return nil }
        self.init(shift: shift)
    }

    /// The size in bytes.
    public var bytes: UInt64 { 1 << UInt64(shift) }

    /// How many target pages make one page of this size.
    public var targetPages: Int { 1 << (shift - PageSize.target.shift) }

    /// Whether a number of bytes is a multiple of the size.
    public func divides(_ byteCount: UInt64) -> Bool { byteCount & (bytes - 1) == 0 }

    public static func < (left: PageSize, right: PageSize) -> Bool { left.shift < right.shift }
}
