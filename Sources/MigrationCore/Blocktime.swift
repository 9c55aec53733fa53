public import PageModel

/// Accounts how long the guest's vCPUs and other threads wait for missing pages.
///
/// A thread waits for one page at a time. Instants are monotonic nanoseconds, in any order: a wait may
/// be told after others that began later. It ends no sooner than it begins, and begins no sooner than
/// the wait that its thread had before. Sums of a thread are exact; the overlap is while fewer than 512
/// later edges of vCPUs were told before an earlier one, which otherwise counts from the latest that
/// was settled.
///
/// A call costs the same however many waits are open. Allocates when it is made, when it is told the
/// vCPUs (36 KiB each) and at the first wait of each other thread that has an account of its own (the
/// same). Threads: one owner.
///
/// Source: `mark_postcopy_blocktime_begin` and `mark_postcopy_blocktime_end` of QEMU
/// (`migration/postcopy-ram.c`).
public struct Blocktime: ~Copyable, Sendable {
    /// What became of a wait that began.
    public enum Outcome: Hashable, Sendable {
        /// The wait has begun and is accounted for. Nobody else has its slot, below
        /// `Blocktime.waiterCapacity`, until it ends.
        case started(slot: Int)
        /// The thread waits for this page already, and since then.
        case alreadyWaiting(slot: Int)
        /// The kernel had woken the thread: its wait for another page ended now, and this one began.
        case moved(slot: Int)
        /// Counted, but not timed: the table is full, or the kernel gave no thread id.
        case untracked
    }

    /// Waits that can be open at once: one for each thread of the process that can fault at the same
    /// time, so that a guest would need a thousand vCPUs to pass it. What passes it is counted as
    /// untracked: neither timed nor part of the overlap.
    public static let waiterCapacity = 1024

    private var parties: WaitParties
    private var waits = OpenWaits(capacity: Blocktime.waiterCapacity)
    private var overlap: Overlap
    private var allWaits = WaitDistribution(.perMille)
    private var buckets = LatencyBuckets()
    private var untrackedCount: UInt64 = 0
    /// How many vCPUs wait now. Several that one thread runs are one.
    public private(set) var currentlyWaitingVCPUs = 0

    /// An account for these vCPU threads, by the kernel's thread ids.
    public init(vcpuThreads: [Int32]) {
        parties = WaitParties(vcpuThreads: vcpuThreads)
        overlap = Overlap(parties.threads)
    }

    /// Names the vCPU threads anew; the place in the list is the vCPU, so that its total goes on.
    ///
    /// An open wait will count for what its thread is when it ends. The totals of vCPUs beyond the
    /// end of the list go to the other threads. A thread that is named twice counts for its first
    /// place, and once in the overlap. Edges told later than this count in the overlap from `instant`.
    public mutating func setVCPUThreads(_ threads: [Int32], at instant: UInt64) {
        parties.setVCPUThreads(threads)
        let start = overlap.restart(parties.threads, at: instant)
        currentlyWaitingVCPUs = 0
        for slot in waits.taken {
            let party = parties.party(of: waits[slot].thread)
            waits.setParty(party, of: slot)
            guard case .vcpu(let vcpu) = party else { continue }
            currentlyWaitingVCPUs += 1
            overlap.note(.blocked, vcpu: vcpu, at: start)
        }
    }

    /// Notes that a vCPU halts, or is woken; one that is not known is passed over.
    ///
    /// A halted vCPU does not run, though it waits for no page. A thread that runs several is halted
    /// when all of them are.
    public mutating func setHalted(vcpu: Int, _ isHalted: Bool, at instant: UInt64) {
        overlap.note(isHalted ? .halted : .woken, vcpu: vcpu, at: instant)
    }

    /// Notes that `thread` sleeps until `page` is placed.
    /// - Parameter ending: told of the thread's wait for another page, when that ends thereby.
    @discardableResult
    public mutating func begin(
        thread: Int32, page: HostPage, at instant: UInt64,
        ending: (EndedWait) -> Void = { _ in }
    ) -> Outcome {
        guard thread > 0 else {
            untrackedCount += 1
            return .untracked
        }
        var hasMoved = false
        if let open = waits.slot(of: thread) {
            guard waits[open].page != page else { return .alreadyWaiting(slot: open) }
            ending(end(open, .moved, at: instant))
            hasMoved = true
        }
        guard !waits.isFull else {
            untrackedCount += 1
            return .untracked
        }
        let party = parties.party(of: thread)
        let began = max(instant, parties.endedAt(party))
        let slot = waits.open(thread, page, party, began: began)
        if case .vcpu(let vcpu) = party {
            currentlyWaitingVCPUs += 1
            overlap.note(.blocked, vcpu: vcpu, at: began)
        }
        return hasMoved ? .moved(slot: slot) : .started(slot: slot)
    }

    /// Ends every wait for `page`; answers how many those were.
    /// - Parameter ending: told of each of them.
    @discardableResult
    public mutating func placed(
        page: HostPage, at instant: UInt64, ending: (EndedWait) -> Void = { _ in }
    ) -> Int {
        var ended = 0
        while let slot = waits.first(at: page) {
            ending(end(slot, .placed, at: instant))
            ended += 1
        }
        return ended
    }

    /// Ends all waits and answers the whole account.
    /// - Parameter ending: told of each of them.
    public mutating func finish(
        at instant: UInt64, ending: (EndedWait) -> Void = { _ in }
    ) -> BlocktimeReport {
        for slot in waits.taken { ending(end(slot, .unfinished, at: instant)) }
        return report()
    }

    /// The account of the waits that have ended.
    public func report() -> BlocktimeReport {
        BlocktimeReport(
            vcpuWaits: parties.vcpuWaits, overlappedNanoseconds: overlap.nanoseconds,
            otherThreads: parties.otherThreads, untrackedCount: untrackedCount,
            allWaits: allWaits, buckets: buckets)
    }

    private mutating func end(
        _ slot: Int, _ how: EndedWait.Ending, at instant: UInt64
    ) -> EndedWait {
        let wait = waits[slot]
        waits.close(slot)
        let ended = max(instant, wait.began)
        allWaits.record(ended - wait.began)
        buckets.record(nanoseconds: ended - wait.began)
        parties.count(wait.party, from: wait.began, to: ended)
        var vcpu: Int?
        if case .vcpu(let index) = wait.party {
            vcpu = index
            currentlyWaitingVCPUs -= 1
            overlap.note(.released, vcpu: index, at: ended)
        }
        return EndedWait(
            slot: slot, thread: wait.thread, vcpu: vcpu, page: wait.page, began: wait.began,
            ended: ended, how: how)
    }
}
