public import Histogram

/// How long a thread waited that is no vCPU.
public struct ThreadWaits: Sendable {
    /// The kernel's id of it.
    public let thread: Int32
    /// Percentiles are true to 1 %.
    public internal(set) var waits: WaitDistribution
}

/// How long the threads waited that are no vCPUs.
public struct OtherThreads: Sendable {
    /// The first of them, in the order in which they first waited; at most
    /// `BlocktimeReport.otherThreadsMax`.
    public internal(set) var own: [ThreadWaits]
    /// All others together.
    public internal(set) var rest: WaitDistribution

    /// What all of them waited.
    public var totals: WaitTotals {
        own.reduce(into: rest.totals) { $0.add($1.waits.totals) }
    }

    mutating func add(_ other: OtherThreads) {
        rest.add(other.rest)
        for thread in other.own {
            if let known = own.firstIndex(where: { $0.thread == thread.thread }) {
                own[known].waits.add(thread.waits)
            } else if own.count < BlocktimeReport.otherThreadsMax {
                own.append(thread)
            } else {
                rest.add(thread.waits)
            }
        }
    }
}

/// What `Blocktime` has counted: every wait that has ended.
///
/// Source: `fill_destination_postcopy_migration_info` of QEMU (`migration/postcopy-ram.c`), whose
/// numbers are milliseconds.
public struct BlocktimeReport: Sendable {
    /// Threads besides the vCPUs that have an account of their own: emulator, disk and network threads
    /// of a VMM are a few dozen, and 64 accounts take 2.3 MiB.
    public static let otherThreadsMax = 64

    /// By vCPU, in the order in which their threads were given. Percentiles are true to 1 %.
    public internal(set) var vcpuWaits: [WaitDistribution]
    /// How long no vCPU ran because of missing pages: at least one waited, and each of the others
    /// waited or was halted.
    public internal(set) var overlappedNanoseconds: UInt64
    /// Threads that are no vCPU.
    public internal(set) var otherThreads: OtherThreads
    /// Faults of threads that had no place in the table or no known thread id: how often, not how
    /// long.
    public internal(set) var untrackedCount: UInt64
    /// Every wait of every thread. Percentiles are true to 0.1 %.
    public internal(set) var allWaits: WaitDistribution
    /// The same by QEMU's powers of two.
    public internal(set) var buckets: LatencyBuckets

    /// How long and how often each vCPU waited.
    public var vcpus: [WaitTotals] { vcpuWaits.map(\.totals) }

    /// How long each vCPU waited.
    public var vcpuNanoseconds: [UInt64] { vcpuWaits.map(\.totals.nanoseconds) }

    /// Threads that are no vCPU, together.
    public var others: WaitTotals { otherThreads.totals }

    /// Every wait of every thread, in nanoseconds; waits above an hour count as an hour.
    public var histogram: Histogram<UInt64> { allWaits.histogram }

    /// The waits of all threads in a few numbers.
    public var latency: LatencySummary { allWaits.latency }

    /// Every length of a wait and how many were as long, the shortest first; true to 0.1 %.
    public var latencyCounts: [(nanoseconds: UInt64, count: UInt64)] {
        histogram.recordedValues().map { ($0.value, $0.count) }
    }

    /// Counts another run as well: vCPUs by their place, other threads by their id.
    public mutating func add(_ other: BlocktimeReport) {
        for (vcpu, waits) in other.vcpuWaits.enumerated() {
            if vcpu < vcpuWaits.count {
                vcpuWaits[vcpu].add(waits)
            } else {
                vcpuWaits.append(waits)
            }
        }
        overlappedNanoseconds += other.overlappedNanoseconds
        otherThreads.add(other.otherThreads)
        untrackedCount += other.untrackedCount
        allWaits.add(other.allWaits)
        buckets.add(other.buckets)
    }
}
