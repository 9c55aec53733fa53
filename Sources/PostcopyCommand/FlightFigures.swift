/// What the flight recorder's records come to, small enough for a report however many there were.
///
/// Instants are of the destination host's `CLOCK_MONOTONIC`; the source's have been brought to it.
struct FlightFigures: Codable, Equatable {
    /// How the beginnings of waits were timed, and how far the figures may be off.
    var timing: TimingFigures
    /// How the two hosts' clocks compare; left out where only one side was recorded.
    var clock: ClockFigures?
    /// The total of all waits by what took the time; the parts sum up to `totalNs`.
    var totalNs: UInt64
    var attribution: [CauseFigures]
    /// The longest waits, the longest first.
    var worst: [WaitFigures]
    /// Where and when pages were waited for and placed.
    var map: MapFigures?
    /// Waits that were recorded, and older ones that the ring lost.
    var recordedWaits: UInt64
    var lostWaits: UInt64
}

/// How sure the beginnings of waits are.
struct TimingFigures: Codable, Equatable {
    /// Waits whose beginning the kernel timed, and those timed when they were read.
    var kernelTimed: UInt64
    var handlerTimed: UInt64
    /// From a fault to its being read, where the kernel timed it.
    var readDelayMeanNs: UInt64
    var readDelayMaxNs: UInt64
    /// How far the total of all waits may lie below the truth.
    var boundNs: UInt64
    /// What bounds it: `kernel`, `probe` or `read-delay`; `unknown` where nothing does.
    var boundedBy: String
    /// What the workload's own threads saw of it.
    var probe: ProbeFigures?
}

/// The recorded waits of the workload's vCPUs beside the long accesses that they saw themselves; see
/// `ProbeComparison`.
struct ProbeFigures: Codable, Equatable {
    var matchedWaits: UInt64
    /// Waits that no access holds: the record would be wrong.
    var unmatchedWaits: UInt64
    /// From accesses' starts to their waits, and from the waits' ends to the accesses'.
    var earlyNs: UInt64
    var earlyMaxNs: UInt64
    var lateNs: UInt64
    var lateMaxNs: UInt64
    /// How much longer than their accesses waits were recorded.
    var overNs: UInt64
    /// Long accesses that hold no recorded wait.
    var otherAccesses: UInt64
    var otherNs: UInt64
}

/// The source's clock beside the destination's.
struct ClockFigures: Codable, Equatable {
    /// Whether both sides ran on one host, so that there is nothing to estimate.
    var isShared: Bool
    /// The source's clock less the destination's.
    var offsetNs: Int64
    /// How far the estimate may be off, either way.
    var errorNs: UInt64
}

/// One part of the time that was waited.
struct CauseFigures: Codable, Equatable {
    /// See `DelayCause`.
    var cause: String
    var ns: UInt64
    /// Waits of which this was the largest part.
    var waits: UInt64?
}

/// One wait and what it consisted of.
struct WaitFigures: Codable, Equatable {
    var thread: Int32
    var name: String?
    var vcpu: Int?
    var block: String
    /// Byte of the block at which the host page begins.
    var offset: UInt64
    var atNs: UInt64
    var ns: UInt64
    var parts: [CauseFigures]
    /// In a few words for people.
    var reason: String
}

/// Counts by time (columns) and by address over all blocks laid end to end (rows).
struct MapFigures: Codable, Equatable {
    var columns: Int
    var rows: Int
    var fromNs: UInt64
    var toNs: UInt64
    var bytes: UInt64
    /// Cells that are not 0, as pairs of `row * columns + column` and a count of host pages.
    var faults: [[UInt64]]
    var urgent: [[UInt64]]
    var background: [[UInt64]]
}

/// Where the migration stood at an instant.
struct SampleFigures: Codable, Equatable {
    var atNs: UInt64
    var status: String
    var sentBytes: UInt64?
    var receivedBytes: UInt64?
    var remainingBytes: UInt64?
    var requests: UInt64?
    /// vCPUs that were waiting for a page.
    var waitingVcpus: Int?
}

/// Values and how often each was seen, the smallest first; a value stands for those within 0.1 %.
struct HistogramFigures: Codable, Equatable {
    var valuesNs: [UInt64]
    var counts: [UInt64]
}
