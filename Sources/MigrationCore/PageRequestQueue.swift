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
    /// wait: 4,096 is the most vCPUs that KVM takes (`CONFIG_KVM_MAX_NR_VCPUS`). 128 KiB.
    public static let capacityDefault = 4096

    /// The most pages that wait at once.
    public let capacity: Int
    /// The pages that wait.
    public private(set) var count = 0

    private var ring: [HostPage]
    /// By the ring's slots: when each was asked for.
    private var instants: [UInt64]
    private var head = 0
    /// Ring slots by the hash of their page.
    private var table: SlotTable

    /// A queue of at most `capacity` pages.
    /// - Precondition: `capacity` is from 1 to 2^20, which is 32 MiB.
    public init(capacity: Int = PageRequestQueue.capacityDefault) {
        precondition(capacity >= 1 && capacity <= 1 << 20)
        self.capacity = capacity
        let unused = HostPage(block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))
        ring = Array(repeating: unused, count: capacity)
        instants = Array(repeating: 0, count: capacity)
        table = SlotTable(capacity: capacity)
    }

    /// Whether none waits.
    public var isEmpty: Bool { count == 0 }

    /// Whether `page` waits.
    public func contains(_ page: HostPage) -> Bool {
        table.slot(hash: page.slotHash) { ring[$0] == page } != nil
    }

    /// Adds `page` behind all others.
    /// - Parameter instant: comes back with the page; nothing is decided by it.
    public mutating func push(_ page: HostPage, at instant: UInt64 = 0) -> Outcome {
        guard !contains(page) else { return .duplicate }
        guard count < capacity else { return .full }
        var slot = head + count
        if slot >= capacity { slot -= capacity }
        ring[slot] = page
        instants[slot] = instant
        table.insert(slot, hash: page.slotHash)
        count += 1
        return .queued
    }

    /// Takes the oldest page, or `nil` when nobody waits.
    public mutating func pop() -> HostPage? { popWithInstant()?.page }

    /// The same, with the instant at which it was pushed.
    public mutating func popWithInstant() -> (page: HostPage, instant: UInt64)? {
        guard count > 0 else { return nil }
        let (page, instant) = (ring[head], instants[head])
        table.remove(head, hash: page.slotHash)
        head = head + 1 == capacity ? 0 : head + 1
        count -= 1
        return (page, instant)
    }
}
