/// What a migration tells the metrics backend that the program has bootstrapped
/// (`MetricsSystem.bootstrap` of swift-metrics), by name.
///
/// Each has a dimension `side`: `source` or `destination`. Names end in their base unit, and those of
/// counters in `_total`.
public enum MigrationMetric: String, CaseIterable, Sendable {
    /// Source.
    case sentBytes = "postcopy_sent_bytes_total"
    /// Destination.
    case receivedBytes = "postcopy_received_bytes_total"
    /// Both; by `kind`: `content` or `zero`.
    case pages = "postcopy_pages_total"
    /// Both: the same pages by `channel`: `background`, or `urgent` because somebody waited.
    case channelPages = "postcopy_channel_pages_total"
    /// Both: received by a source, sent by a destination.
    case requests = "postcopy_requests_total"
    /// Destination.
    case faults = "postcopy_faults_total"
    /// Destination; a distribution.
    case faultLatency = "postcopy_fault_latency_seconds"
    /// Destination.
    case blockedVCPUs = "postcopy_blocked_vcpus"
    /// Destination; by `vcpu`, once it has ended.
    case blocktime = "postcopy_blocktime_seconds_total"
    /// Both; by `phase`: 1 for the one it is in, and 0.
    case phase = "postcopy_phase"
    /// Both.
    case remainingBytes = "postcopy_remaining_bytes"
    /// Source.
    case dirtyRate = "postcopy_dirty_rate_bytes_per_second"
    /// Source, once it has ended.
    case downtime = "postcopy_downtime_seconds"
    /// Both.
    case linkBreaks = "postcopy_link_breaks_total"
    /// Both.
    case linkRecoveries = "postcopy_link_recoveries_total"

    /// How its numbers behave.
    public enum Kind: String, Sendable {
        /// They only grow.
        case counter
        /// They are of now.
        case gauge
        /// They are counted by their size.
        case histogram
    }

    /// How its numbers behave.
    public var kind: Kind {
        switch self {
        case .sentBytes, .receivedBytes, .pages, .channelPages, .requests, .faults, .blocktime,
            .linkBreaks, .linkRecoveries:
            .counter
        case .blockedVCPUs, .phase, .remainingBytes, .dirtyRate, .downtime: .gauge
        case .faultLatency: .histogram
        }
    }

    /// The base unit that its name ends in, but for `_total`; `nil` for plain counts.
    public var unit: String? {
        switch self {
        case .sentBytes, .receivedBytes, .remainingBytes: "bytes"
        case .faultLatency, .blocktime, .downtime: "seconds"
        case .dirtyRate: "bytes_per_second"
        case .pages, .channelPages, .requests, .faults, .blockedVCPUs, .phase, .linkBreaks,
            .linkRecoveries:
            nil
        }
    }

    /// What it is, in one line.
    public var help: String {
        switch self {
        case .sentBytes: "Bytes written to all channels."
        case .receivedBytes: "Bytes read from all channels."
        case .pages: "Target pages (4 KiB) sent or placed, by what they hold."
        case .channelPages: "The same pages, by whether somebody waited for them."
        case .requests: "Page requests received by the source, or sent by the destination."
        case .faults: "Threads seen waiting for a page."
        case .faultLatency: "How long threads waited for pages; waits that have ended."
        case .blockedVCPUs: "vCPUs that wait for a page now."
        case .blocktime: "How long each vCPU waited for pages; known once the migration has ended."
        case .phase: "1 for the status that the side is in, and 0 for the others."
        case .remainingBytes: "Memory that is not yet sent, or not yet here."
        case .dirtyRate: "Memory that the guest dirties while it is sent."
        case .downtime:
            "From the guest's stop to the arrival of the word that it runs, way back included; told at the end."
        case .linkBreaks: "Links that broke once the guest may have moved."
        case .linkRecoveries: "Broken links that came back."
        }
    }
}
