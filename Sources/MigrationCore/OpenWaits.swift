internal import PageModel

/// For whom a wait counts.
enum WaitParty: Hashable, Sendable {
    case vcpu(Int)
    /// A thread that is no vCPU, by its place among those with an account of their own.
    case other(Int)
    /// One of the many.
    case rest
}

/// Waits that have not ended, each in a slot of its own, found by thread and by page.
///
/// A page's waits are a chain through the slots, so that each costs the same however many are open.
/// Allocates only when it is made: 88 KiB for 1,024.
struct OpenWaits: Sendable {
    struct Wait: Sendable {
        var thread: Int32
        var page: HostPage
        var began: UInt64
        var party: WaitParty
        /// The next wait for the same page, or the next free slot.
        fileprivate var next: Int32
        /// The one before it.
        fileprivate var previous: Int32
    }

    private(set) var count = 0
    private var slots: [Wait]
    private var byThread: SlotTable
    /// The first wait of each page's chain.
    private var byPage: SlotTable
    private var firstFree: Int32 = 0

    init(capacity: Int) {
        let nowhere = HostPage(block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))
        slots = (0..<capacity).map { slot in
            Wait(
                thread: 0, page: nowhere, began: 0, party: .rest,
                next: slot + 1 < capacity ? Int32(slot + 1) : -1, previous: -1)
        }
        byThread = SlotTable(capacity: capacity)
        byPage = SlotTable(capacity: capacity)
    }

    var isFull: Bool { firstFree < 0 }

    subscript(slot: Int) -> Wait { slots[slot] }

    /// The slots that are taken, in order; for what is done once.
    var taken: [Int] { slots.indices.filter { slots[$0].thread != 0 } }

    /// Where the thread's wait is.
    func slot(of thread: Int32) -> Int? {
        byThread.slot(hash: Self.hash(thread)) { slots[$0].thread == thread }
    }

    /// One of the waits for a page.
    func first(at page: HostPage) -> Int? {
        byPage.slot(hash: page.slotHash) { slots[$0].page == page }
    }

    /// Keeps a wait.
    /// - Precondition: there is room, and the thread has no other.
    mutating func open(
        _ thread: Int32, _ page: HostPage, _ party: WaitParty, began: UInt64
    ) -> Int {
        let slot = Int(firstFree)
        firstFree = slots[slot].next
        count += 1
        var wait = Wait(
            thread: thread, page: page, began: began, party: party, next: -1, previous: -1)
        if let first = first(at: page) {
            wait.previous = Int32(first)
            wait.next = slots[first].next
            slots[first].next = Int32(slot)
            if wait.next >= 0 { slots[Int(wait.next)].previous = Int32(slot) }
        } else {
            byPage.insert(slot, hash: page.slotHash)
        }
        slots[slot] = wait
        byThread.insert(slot, hash: Self.hash(thread))
        return slot
    }

    /// Frees a slot.
    mutating func close(_ slot: Int) {
        let wait = slots[slot]
        byThread.remove(slot, hash: Self.hash(wait.thread))
        if wait.next >= 0 { slots[Int(wait.next)].previous = wait.previous }
        if wait.previous >= 0 {
            slots[Int(wait.previous)].next = wait.next
        } else if wait.next >= 0 {
            byPage.replace(slot, with: Int(wait.next), hash: wait.page.slotHash)
        } else {
            byPage.remove(slot, hash: wait.page.slotHash)
        }
        slots[slot].thread = 0
        slots[slot].next = firstFree
        firstFree = Int32(slot)
        count -= 1
    }

    /// Says anew for whom a wait counts.
    mutating func setParty(_ party: WaitParty, of slot: Int) { slots[slot].party = party }

    private static func hash(_ thread: Int32) -> UInt32 { SlotTable.hash(UInt64(thread)) }
}
