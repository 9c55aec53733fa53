/// What discards were written, for reports.
public struct DiscardTotals: Equatable, Sendable {
    /// Ranges that were named.
    public var ranges = 0
    /// Commands that named them.
    public var commands = 0
    /// What the commands took in the stream.
    public var bytes = 0
    /// Target pages in the ranges.
    public var targetPages = 0

    /// Nothing discarded yet.
    public init() {}
}
