internal import Histogram
public import PageModel

/// Accounts how long the guest's vCPUs and other threads wait for missing pages.
///
/// A thread waits for one page at a time. Instants are monotonic nanoseconds; one that lies before
/// the latest seen counts as the latest, since two threads may report out of order.
/// Allocates only when it is made or told the vCPUs. Threads: one owner.
///
/// Source: `mark_postcopy_blocktime_begin` and `mark_postcopy_blocktime_end` of QEMU
/// (`migration/postcopy-ram.c`); the overlap is QEMU's: from the moment at which the last vCPU
/// blocks to the first release.
public struct Blocktime: ~Copyable, Sendable {
    /// What became of a wait that began.
    public enum Outcome: Hashable, Sendable {
        /// The wait has begun and is accounted for.
        case started
        /// The thread waits for this page already, and since then.
        case alreadyWaiting
        /// The kernel had woken the thread: its wait for another page ended now, and this one began.
        case moved
        /// Counted, but not timed: the table is full, or the kernel gave no thread id.
        case untracked
    }

    /// Waits that can be open at once: one for each thread of the process that can fault at the same
    /// time, so that a guest would need a thousand vCPUs to pass it. What passes it is counted as
    /// untracked: neither timed nor part of the overlap. 32 KiB.
    public static let waiterCapacity = 1024

    private struct Wait {
        let thread: Int32
        let page: HostPage
        let since: UInt64
    }

    /// One hour, longer than any wait worth telling apart; with it the histogram has 264 KiB and
    /// never grows.
    static let latencyNanosecondsMax: UInt64 = 3_600_000_000_000

    private var vcpus: VCPUThreads
    private var totals: [WaitTotals]
    private var others = WaitTotals()
    private var untrackedCount: UInt64 = 0
    /// Dense and in no order: few threads wait at once, and a scan of a few is quicker than a table.
    private var waits: [Wait] = []
    private var overlap: Overlap
    private var histogram = Histogram<UInt64>(
        lowestDiscernibleValue: 1, highestTrackableValue: Blocktime.latencyNanosecondsMax,
        numberOfSignificantValueDigits: .three)
    private var latest: UInt64 = 0

    /// An account for these vCPU threads, by the kernel's thread ids.
    public init(vcpuThreads: [Int32]) {
        vcpus = VCPUThreads(vcpuThreads)
        totals = Array(repeating: WaitTotals(), count: vcpuThreads.count)
        overlap = Overlap(vcpuCount: vcpus.threadCount)
        waits.reserveCapacity(Blocktime.waiterCapacity)
    }

    /// Names the vCPU threads anew; the place in the list is the vCPU, so that its total goes on.
    ///
    /// An open wait will count for what its thread is when it ends. The totals of vCPUs beyond the
    /// end of the list go to the other threads. A thread that is named twice counts for its first
    /// place, and once in the overlap.
    public mutating func setVCPUThreads(_ threads: [Int32], at instant: UInt64) {
        let now = advance(to: instant)
        overlap.end(at: now)
        for gone in totals.dropFirst(threads.count) { others.add(gone) }
        totals = Array(totals.prefix(threads.count))
        let missing = threads.count - totals.count
        totals.append(contentsOf: repeatElement(WaitTotals(), count: missing))
        vcpus = VCPUThreads(threads)
        overlap = Overlap(vcpuCount: vcpus.threadCount, nanoseconds: overlap.nanoseconds)
        for wait in waits where vcpus.index(of: wait.thread) != nil { overlap.block(at: now) }
    }

    /// Notes that `thread` sleeps until `page` is placed.
    @discardableResult
    public mutating func begin(thread: Int32, page: HostPage, at instant: UInt64) -> Outcome {
        let now = advance(to: instant)
        guard thread > 0 else {
            untrackedCount += 1
            return .untracked
        }
        var outcome = Outcome.started
        for index in waits.indices where waits[index].thread == thread {
            guard waits[index].page != page else { return .alreadyWaiting }
            end(index, at: now)
            outcome = .moved
            break
        }
        guard waits.count < Blocktime.waiterCapacity else {
            untrackedCount += 1
            return .untracked
        }
        waits.append(Wait(thread: thread, page: page, since: now))
        if vcpus.index(of: thread) != nil { overlap.block(at: now) }
        return outcome
    }

    /// Ends every wait for `page`; answers how many those were.
    @discardableResult
    public mutating func placed(page: HostPage, at instant: UInt64) -> Int {
        guard !waits.isEmpty else { return 0 }
        let now = advance(to: instant)
        var ended = 0
        var index = waits.count
        // From the end: closing a wait moves the last one into its place.
        while index > 0 {
            index -= 1
            guard waits[index].page == page else { continue }
            end(index, at: now)
            ended += 1
        }
        return ended
    }

    /// Ends all waits and answers the whole account.
    public mutating func finish(at instant: UInt64) -> BlocktimeReport {
        let now = advance(to: instant)
        while !waits.isEmpty { end(waits.count - 1, at: now) }
        return report()
    }

    /// The account of the waits that have ended.
    public func report() -> BlocktimeReport {
        BlocktimeReport(
            vcpus: totals, overlappedNanoseconds: overlap.nanoseconds, others: others,
            untrackedCount: untrackedCount, histogram: histogram)
    }

    private mutating func advance(to instant: UInt64) -> UInt64 {
        latest = max(latest, instant)
        return latest
    }

    private mutating func end(_ index: Int, at now: UInt64) {
        let wait = waits[index]
        waits[index] = waits[waits.count - 1]
        waits.removeLast()
        let nanoseconds = now - wait.since
        histogram.record(min(nanoseconds, Blocktime.latencyNanosecondsMax))
        if let vcpu = vcpus.index(of: wait.thread) {
            totals[vcpu].add(waitNanoseconds: nanoseconds)
            overlap.release(at: now)
        } else {
            others.add(waitNanoseconds: nanoseconds)
        }
    }
}
