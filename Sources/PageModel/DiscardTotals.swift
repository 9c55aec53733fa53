/// What discards were written, for reports.
public struct DiscardTotals: Equatable, Sendable {
    public var ranges = 0
    public var commands = 0
    public var bytes = 0
    public var targetPages = 0

    public init() {}
}
