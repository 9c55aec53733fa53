public import Postcopy

/// The accesses of one vCPU that took long: the latency that the faulting thread itself sees.
///
/// The clock is read once per access, the end of one being the start of the next; about 21 ns. An
/// access also counts as long when the host took the processor away in the middle of it.
public struct StallProbe: Equatable, Sendable {
    /// Between a memory miss (0.1 us) and the fastest page fault served from elsewhere (10 us).
    public static let thresholdNanoseconds: UInt64 = 5_000

    public private(set) var count: UInt64 = 0
    public private(set) var totalNanoseconds: UInt64 = 0
    public private(set) var maxNanoseconds: UInt64 = 0
    /// When the first of them were: those that follow a move.
    public private(set) var accesses: [LongAccess] = []

    /// A vCPU waits some 10,000 times for the pages of 4 GiB. 256 KiB.
    static let accessesMax = 16_384

    public init() {}

    /// Room for what is kept, so that no access pays for it.
    mutating func reserve() { accesses.reserveCapacity(Self.accessesMax) }

    /// The long accesses of several vCPUs as of one; not when they were.
    public init(sumOf probes: [StallProbe]) {
        for probe in probes {
            count += probe.count
            totalNanoseconds &+= probe.totalNanoseconds
            maxNanoseconds = max(maxNanoseconds, probe.maxNanoseconds)
        }
    }

    /// 0 when no access was long.
    public var meanNanoseconds: UInt64 { count == 0 ? 0 : totalNanoseconds / count }

    @inline(__always)
    mutating func record(from start: UInt64, to end: UInt64) {
        let duration = end &- start
        if duration > Self.thresholdNanoseconds { note(start, duration) }
    }

    @inline(never)
    private mutating func note(_ start: UInt64, _ duration: UInt64) {
        if accesses.count < Self.accessesMax {
            accesses.append(LongAccess(start: start, end: start &+ duration))
        }
        count += 1
        totalNanoseconds &+= duration
        maxNanoseconds = max(maxNanoseconds, duration)
    }
}
