public import PageModel

/// Host pages that the destination waits for, oldest first, each at most once.
///
/// Allocates only when it is made: a ring holds the order, and an open-addressing table of ring
/// slots finds duplicates. Threads: one owner.
///
/// Source: `src_page_requests` and `unqueue_page` of QEMU (`migration/ram.c`), which neither merges
/// nor bounds.
public struct PageRequestQueue: ~Copyable, Sendable {
    /// What became of a page that was pushed.
    public enum Outcome: Hashable, Sendable {
        /// It waits for its turn.
        case queued
        /// The page is in the queue already.
        case duplicate
        /// The queue is full and the page is not in it. The caller must not lose the request.
        case full
    }

    /// A waiting thread asks once for one page, so that the bound is the number of threads that can
    /// wait: 4,096 is the most vCPUs that KVM takes (`CONFIG_KVM_MAX_NR_VCPUS`). 96 KiB.
    public static let capacityDefault = 4096

    /// The most pages that wait at once.
    public let capacity: Int
    /// The pages that wait.
    public private(set) var count = 0

    private var ring: [HostPage]
    private var head = 0
    /// Ring slots by the hash of their page; `-1` is free. At most half full, so that runs are short.
    private var table: [Int32]
    private let mask: Int

    /// A queue of at most `capacity` pages.
    /// - Precondition: `capacity` is from 1 to 2^20, which is 24 MiB.
    public init(capacity: Int = PageRequestQueue.capacityDefault) {
        precondition(capacity >= 1 && capacity <= 1 << 20)
        self.capacity = capacity
        let unused = HostPage(block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))
        ring = Array(repeating: unused, count: capacity)
        let tableSize = 1 << (Int.bitWidth - (2 * capacity - 1).leadingZeroBitCount)
        table = Array(repeating: -1, count: tableSize)
        mask = tableSize - 1
    }

    /// Whether none waits.
    public var isEmpty: Bool { count == 0 }

    /// Whether `page` waits.
    public func contains(_ page: HostPage) -> Bool { table[place(of: page)] >= 0 }

    /// Adds `page` behind all others.
    public mutating func push(_ page: HostPage) -> Outcome {
        let place = place(of: page)
        guard table[place] < 0 else { return .duplicate }
        guard count < capacity else { return .full }
        var slot = head + count
        if slot >= capacity { slot -= capacity }
        ring[slot] = page
        table[place] = Int32(truncatingIfNeeded: slot)
        count += 1
        return .queued
    }

    /// Takes the oldest page, or `nil` when nobody waits.
    public mutating func pop() -> HostPage? {
        guard count > 0 else { return nil }
        let page = ring[head]
        vacate(place(of: page))
        head = head + 1 == capacity ? 0 : head + 1
        count -= 1
        return page
    }

    /// The table's place that names `page`, or the free one where it would go.
    private func place(of page: HostPage) -> Int {
        var place = home(of: page)
        while true {
            let slot = Int(table[place])
            if slot < 0 || ring[slot] == page { return place }
            place = (place + 1) & mask
        }
    }

    /// Where a search for `page` begins. The multiplier is 2^64 divided by the golden ratio: pages
    /// in order, which is how guests fault, spread evenly.
    private func home(of page: HostPage) -> Int {
        let key = UInt64(truncatingIfNeeded: page.page.rawValue)
        let block = UInt64(truncatingIfNeeded: page.block.rawValue)
        let mixed = (key ^ block << 48) &* 0x9E37_79B9_7F4A_7C15
        return Int(truncatingIfNeeded: mixed >> 32) & mask
    }

    /// Frees a place and moves back what had to go around it, so that no search stops early.
    private mutating func vacate(_ freed: Int) {
        var hole = freed
        var place = freed
        while true {
            place = (place + 1) & mask
            let slot = Int(table[place])
            guard slot >= 0 else { break }
            let distance = (place - home(of: ring[slot])) & mask
            guard distance >= (place - hole) & mask else { continue }
            table[hole] = table[place]
            hole = place
        }
        table[hole] = -1
    }
}
