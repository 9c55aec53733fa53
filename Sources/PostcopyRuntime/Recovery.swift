/// A link that broke once the guest may have moved, and how it came back. Instants are on the monotonic
/// clock of the host.
public struct LinkBreak: Equatable, Sendable {
    /// What broke it, in one line.
    public internal(set) var problem: String
    /// When the peer was last heard on any channel.
    public internal(set) var heardAtNanoseconds: UInt64
    /// When the migration paused.
    public internal(set) var pausedAtNanoseconds: UInt64
    /// Source: connections that were tried. Destination: sources that were let in.
    public internal(set) var attempts = 0
    /// Source: how long the wait before the last attempt was.
    public internal(set) var backOffNanoseconds: UInt64 = 0
    /// When the connection stood by which it came back; `nil` as long as it has not.
    public internal(set) var linkBackAtNanoseconds: UInt64?
    /// When pages could flow again.
    public internal(set) var resumedAtNanoseconds: UInt64?
    /// Destination: when the first page was placed behind it.
    public internal(set) var firstPageAtNanoseconds: UInt64?

    init(problem: String, heardAtNanoseconds: UInt64, pausedAtNanoseconds: UInt64) {
        self.problem = problem
        self.heardAtNanoseconds = heardAtNanoseconds
        self.pausedAtNanoseconds = pausedAtNanoseconds
    }
}

/// How a side stands that has paused, and what became of earlier breaks.
public struct RecoveryProgress: Equatable, Sendable {
    /// The first and the latest of them; a link may break without end.
    public var breaks: [LinkBreak] = []
    /// How many there were in all.
    public var breakCount = 0
    /// Why the last attempt failed or the last visitor was turned away, in one line.
    public var refusal: String?
    /// Nothing happens by itself any more: somebody must recover the migration or abandon it.
    public var waitsForSomebody = false
    /// Destination, while paused: what is missing.
    public var missing: [MissingPages] = []
    /// Destination, once it has failed: for whom it stays.
    public var farewell: Farewell?

    /// No breaks yet.
    public init() {}

    /// A screen or two.
    private static let breaksKept = 64

    /// Notes that the link broke; answers `false` where that was inside a recovery, which is one more
    /// attempt at the same return.
    @discardableResult
    mutating func note(_ linkBreak: LinkBreak) -> Bool {
        if let last = breaks.last, last.resumedAtNanoseconds == nil { return false }
        breakCount += 1
        breaks.append(linkBreak)
        if breaks.count > Self.breaksKept { breaks.remove(at: 1) }
        return true
    }
}

/// A guest never ran at its destination, and its source may not know: that is told to it should it come
/// back, so that the guest goes on there.
public struct Farewell: Equatable, Sendable {
    /// Why it never ran.
    public let problem: String
    /// On the monotonic clock of the host.
    public let untilNanoseconds: UInt64

    /// What a destination tells that stays.
    public init(problem: String, untilNanoseconds: UInt64) {
        self.problem = problem
        self.untilNanoseconds = untilNanoseconds
    }
}

/// Pages of one block that are not here.
public struct MissingPages: Equatable, Sendable {
    /// The name of the block.
    public let block: String
    /// How many are missing.
    public let hostPages: Int
    /// The same in bytes.
    public let bytes: UInt64
}
