/// What a precopy knows about itself at one instant.
public struct PrecopyObservation: Equatable, Sendable {
    /// Since precopy began.
    public var elapsedNanoseconds: UInt64
    /// Passes over the dirty bitmap that are over. The first, the bulk round, sends all of memory.
    public var roundsDone: UInt64
    /// Whether a sync has just ended a round: what is left and the rate of writing are fresh. At other
    /// times they are those of the last sync, less what was sent since.
    public var isRoundEnd: Bool
    /// Dirty as far as is known.
    public var remainingBytes: UInt64
    /// All of the guest's memory.
    public var totalBytes: UInt64
    /// Guest memory sent per second while there was something to send; zero until that is known.
    public var bandwidthBytesPerSecond: UInt64
    /// Newly dirtied per second between the last two syncs; a page counts once, however often it was
    /// written.
    public var dirtyBytesPerSecond: UInt64

    /// What is known at one moment of a precopy.
    public init(
        elapsedNanoseconds: UInt64, roundsDone: UInt64, isRoundEnd: Bool, remainingBytes: UInt64,
        totalBytes: UInt64, bandwidthBytesPerSecond: UInt64, dirtyBytesPerSecond: UInt64
    ) {
        self.elapsedNanoseconds = elapsedNanoseconds
        self.roundsDone = roundsDone
        self.isRoundEnd = isRoundEnd
        self.remainingBytes = remainingBytes
        self.totalBytes = totalBytes
        self.bandwidthBytesPerSecond = bandwidthBytesPerSecond
        self.dirtyBytesPerSecond = dirtyBytesPerSecond
    }
}

/// One round of a precopy, for reports.
public struct PrecopyRound: Equatable, Sendable {
    /// From 1, the bulk round.
    public var number: UInt64
    /// On the monotonic clock of the source.
    public var startedAtNanoseconds: UInt64
    /// How long it took, its sync included.
    public var durationNanoseconds: UInt64
    /// Target pages, zero pages included.
    public var sentPages: UInt64
    /// Bytes written to the channel.
    public var sentBytes: UInt64
    /// Target pages that the sync at its end found newly dirty.
    public var dirtiedPages: UInt64

    /// A pass that has ended.
    public init(
        number: UInt64, startedAtNanoseconds: UInt64, durationNanoseconds: UInt64,
        sentPages: UInt64, sentBytes: UInt64, dirtiedPages: UInt64
    ) {
        self.number = number
        self.startedAtNanoseconds = startedAtNanoseconds
        self.durationNanoseconds = durationNanoseconds
        self.sentPages = sentPages
        self.sentBytes = sentBytes
        self.dirtiedPages = dirtiedPages
    }
}
