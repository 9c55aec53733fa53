public import MigrationCore

/// How a migration runs. Both sides take the same.
public struct MigrationOptions: Sendable {
    /// Whether urgent pages get a channel of their own. The source decides.
    public var preempt = true

    /// How long a peer may keep silent while it owes something. A live source writes at least every
    /// second; ten of these also outlast a host that swaps or a lost route that comes back.
    public var silenceNanosecondsMax: UInt64 = 10_000_000_000

    /// Bytes per second on the main channel until the guest is stopped; `nil` is no limit, 0 is
    /// refused. The source's to say, as QEMU's `max-bandwidth` is.
    public var maxBandwidth: UInt64?

    /// Bytes per second of background pages once the guest has moved; `nil` is no limit, 0 is
    /// refused. Requested pages are sent at once and count towards it, up to seven eighths
    /// (`RateLimit`). The source's to say, as QEMU's `max-postcopy-bandwidth` is.
    public var maxPostcopyBandwidth: UInt64?

    /// Whether a destination rebuilds transparent huge pages once every page is there, those first
    /// that the guest needed first. `run` returns later; neither guest nor source wait for it, but
    /// the guest waits in a range while that is copied.
    public var heals = false

    /// Source: sends memory while the guest runs; `nil`: the guest moves first and its memory follows.
    public var precopy: PrecopyOptions?

    /// Source: gives memory back as it is sent, once the destination runs the guest. The guest cannot
    /// come back then, and a migration that pauses cannot be recovered.
    public var releasesRAM = false

    /// Leaves out memory that both sides map from the same file (`GuestRAM.isShared`): it is listed and
    /// never sent, and neither side empties it. On at both sides or at none.
    ///
    /// It is QEMU's `x-ignore-shared`, which a QEMU refuses together with `postcopy-ram`: for two ends
    /// of this library, or a QEMU that allows both.
    public var ignoresShared = false

    public init() {}
}

/// How a source sends memory while the guest runs.
public struct PrecopyOptions: Sendable {
    /// How long the guest runs on, with the destination connected, before the first page is sent.
    public var warmUpNanoseconds: UInt64 = 0

    /// When it ends.
    public var switchover = SwitchoverSettings.usual

    /// Slows the guest's vCPUs where more is dirtied than sent; `nil`: never.
    public var autoConverge: AutoConverge.Settings?

    public init() {}
}
