/// How a migration runs. Both sides take the same.
public struct MigrationOptions: Sendable {
    /// Whether urgent pages get a channel of their own. The source decides.
    public var preempt = true

    /// How long a peer may keep silent while it owes something. A live source writes at least every
    /// second; ten of these also outlast a host that swaps or a lost route that comes back.
    public var silenceNanosecondsMax: UInt64 = 10_000_000_000

    /// Whether a destination rebuilds transparent huge pages once every page is there, those first
    /// that the guest needed first. `run` returns later; neither guest nor source wait for it, but
    /// the guest waits in a range while that is copied.
    public var heals = false

    public init() {}
}
