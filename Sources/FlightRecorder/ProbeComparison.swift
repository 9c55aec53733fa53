/// An access to memory that took long, as the thread itself saw it.
public struct LongAccess: Hashable, Sendable {
    /// Nanoseconds of `CLOCK_MONOTONIC` before it.
    public let start: UInt64
    /// The same behind it.
    public let end: UInt64

    /// One between two readings of the clock.
    public init(start: UInt64, end: UInt64) {
        self.start = start
        self.end = end
    }
}

/// The recorded waits of threads beside what the threads saw of them: how far the record may be off.
///
/// A thread waits inside an access of its own: what the access took before the wait began, or behind
/// its end, bounds what the record left out. The latter includes the time until the thread had a
/// processor again, which is no wait for a page. The kernel wakes the thread before the call that
/// placed the page returns and the clock is read: the thread may have been done by then.
public struct ProbeComparison: Hashable, Sendable {
    /// Recorded waits that began in a long access of their thread.
    public private(set) var matchedWaits: UInt64 = 0
    /// Those that began in none, where accesses were still kept: the record is wrong.
    public private(set) var unmatchedWaits: UInt64 = 0
    /// From an access's start to the first wait in it: in all, and the longest.
    public private(set) var earlyNanoseconds: UInt64 = 0
    /// The longest of them.
    public private(set) var earlyNanosecondsMax: UInt64 = 0
    /// From the end of the last wait in an access to the access's end.
    public private(set) var lateNanoseconds: UInt64 = 0
    /// The longest of them.
    public private(set) var lateNanosecondsMax: UInt64 = 0
    /// How much longer than their accesses waits were recorded to last.
    public private(set) var overNanoseconds: UInt64 = 0
    /// The longest of them.
    public private(set) var overNanosecondsMax: UInt64 = 0
    /// Long accesses without a wait: the processor was taken away, or the page came before the fault
    /// was read, which nobody records.
    public private(set) var otherAccesses: UInt64 = 0
    /// The sum of those.
    public private(set) var otherNanoseconds: UInt64 = 0

    /// Compares nothing yet.
    public init() {}

    /// Adds one thread.
    /// - Parameter waits: its waits in the order in which they began.
    /// - Parameter accesses: its long accesses, in order, from the first on.
    /// - Parameter isComplete: whether no access was left out at the end.
    public mutating func add(waits: [WaitRecord], accesses: [LongAccess], isComplete: Bool) {
        var next = 0
        for access in accesses {
            var first: UInt64?
            var last: UInt64 = 0
            while next < waits.count, waits[next].began < access.start {
                unmatchedWaits += 1
                next += 1
            }
            while next < waits.count, waits[next].began <= access.end {
                first = first ?? waits[next].began
                last = max(last, waits[next].ended)
                matchedWaits += 1
                next += 1
            }
            note(access, first, last)
        }
        if isComplete { unmatchedWaits += UInt64(waits.count - next) }
    }

    private mutating func note(_ access: LongAccess, _ first: UInt64?, _ last: UInt64) {
        guard let first else {
            otherAccesses += 1
            otherNanoseconds += access.end - access.start
            return
        }
        let early = first - access.start
        let late = access.end - min(last, access.end)
        let over = last - min(last, access.end)
        earlyNanoseconds += early
        earlyNanosecondsMax = max(earlyNanosecondsMax, early)
        lateNanoseconds += late
        lateNanosecondsMax = max(lateNanosecondsMax, late)
        overNanoseconds += over
        overNanosecondsMax = max(overNanosecondsMax, over)
    }
}
