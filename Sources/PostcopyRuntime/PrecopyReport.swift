public import MigrationCore

/// What a precopy did.
public struct PrecopyReport: Sendable {
    /// Passes through memory, the first and the latest of them; see `RoundLog`.
    public internal(set) var rounds: [PrecopyRound] = []
    /// How many there were.
    public internal(set) var roundCount = 0
    /// What ended it, with the figures it was decided on; `nil` when it did not come to that.
    public internal(set) var decision: SwitchoverDecision?
    /// Whether the rest was sent while the guest was stopped, so that nothing was owed behind it. A
    /// decision for that gives way to postcopy when more was dirtied since than fits.
    public internal(set) var restWasSent = false
    /// Target pages that were owed once the guest had moved; what the decision rests on was counted
    /// at the sync before it.
    public internal(set) var owedPages = 0
    /// The last sync of the dirty bitmap, part of the downtime.
    public internal(set) var finalSyncNanoseconds: UInt64 = 0
    /// The most that the vCPUs were throttled.
    public internal(set) var throttlePercent: UInt64 = 0
}

/// Where a precopy stands.
public struct PrecopyProgress: Equatable, Sendable {
    /// Passes through memory that have ended. QEMU: `dirty-sync-count`.
    public var roundCount = 0
    /// Of the main channel; see `TransferRates`. QEMU: `mbps`.
    public var bytesPerSecond: UInt64 = 0
    /// QEMU: `pages-per-second`.
    public var pagesPerSecond: UInt64 = 0
    /// Pages that became dirty between the last two syncs, each counted once. QEMU:
    /// `dirty-pages-rate`.
    public var dirtyPagesPerSecond: UInt64 = 0
    /// How long the guest would stop if the rest were sent now. QEMU: `expected-downtime`.
    public var expectedDowntimeNanoseconds: UInt64?
    /// How much the vCPUs are throttled now.
    public var throttlePercent: UInt64 = 0

    /// Nothing known yet.
    public init() {}
}

/// The rounds of a precopy of any length: the first, which goes through all memory, and the latest.
struct RoundLog: Sendable {
    private(set) var kept: [PrecopyRound] = []
    private(set) var count = 0

    /// A screen or two of rounds; at ten a second a precopy of an hour has 36,000.
    private static let keptMax = 64

    mutating func append(_ round: PrecopyRound) {
        count += 1
        if kept.count == Self.keptMax { kept.remove(at: 1) }
        kept.append(round)
    }
}
