public import LinuxKernel
public import MigrationCore

/// How a migration runs. Both sides take the same.
public struct MigrationOptions: Sendable {
    /// Whether urgent pages get a channel of their own. The source decides.
    public var preempt = true

    /// Source: when the urgent channel connects.
    public var preemptTiming = PreemptTiming.onceAnswered

    /// How long a peer may keep silent while it owes something. A live source writes at least every
    /// second; ten of these also outlast a host that swaps or a lost route that comes back.
    public var silenceNanosecondsMax: UInt64 = 10_000_000_000

    /// Source: how long a guest may take to stop its vCPUs (`Guest.pause`); then it goes on here, and
    /// the migration has failed. A vCPU leaves `KVM_RUN` within microseconds and what it waits for in a
    /// device within a second or two; a destination hears nothing meanwhile, and is patient for
    /// `silenceNanosecondsMax`.
    public var pauseNanosecondsMax: UInt64 = 5_000_000_000

    /// How long a channel between two ends of this library may bring nothing once the guest moves;
    /// then the link has broken. Each end writes four times as often, and at least every 62 ms: a limit
    /// below the default is for both ends. A quarter of a second is as long as a guest may stall
    /// unnoticed, and longer than TCP takes to send a lost packet again.
    public var linkLimitNanoseconds = Self.linkLimitNanosecondsDefault
    private static let linkLimitNanosecondsDefault: UInt64 = 250_000_000

    /// What follows when the link breaks once the guest may have moved.
    public var recovery = RecoveryOptions()

    /// After how long without a word this side ends a link: where nothing takes it up again, not before
    /// all patience is over.
    var linkLimitInForce: UInt64 {
        recovery.mode == .none || releasesRAM
            ? max(linkLimitNanoseconds, silenceNanosecondsMax) : linkLimitNanoseconds
    }

    /// Taking a link up needs answers: a round trip, and a connection whose first packet may be lost.
    var handshakeNanosecondsMax: UInt64 { max(linkLimitInForce, 2_000_000_000) }

    /// How often a channel shows that this side lives, whatever it asks of the other, which may be less
    /// patient.
    var beatNanoseconds: UInt64 {
        max(1_000_000, min(linkLimitNanoseconds, Self.linkLimitNanosecondsDefault) / 4)
    }

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

    /// Whether each fault, and what was done about it, is recorded for the report.
    public var recordsFaults = true

    /// Whether the kernel is asked when each vCPU's fault began, which costs a fault two or three
    /// microseconds (`FaultClock`). Otherwise, and where it refuses, a wait begins when its fault is
    /// read, which may be much later on a busy host.
    public var timesFaultsInKernel = false

    /// Everything as its documentation says.
    public init() {}
}

/// How a migration goes on whose link broke.
public struct RecoveryOptions: Sendable {
    /// What follows when the link breaks.
    public enum Mode: String, CaseIterable, Sendable {
        /// `run` returns when the migration has paused.
        case none
        /// It waits for `recover` or `abandon`.
        case byHand = "by-hand"
        /// Between two ends of this library the source comes back by itself; with a QEMU at the other
        /// end, and once the time is up, it waits for somebody.
        case automatic = "auto"
    }

    /// What follows when the link breaks.
    public var mode = Mode.automatic

    /// Source: where else the destination may be reached, tried in turn behind the first address.
    public var addresses: [ChannelAddress] = []

    /// For how long a source comes back by itself: longer than a switch or a router takes to restart.
    public var lastingNanoseconds: UInt64 = 300_000_000_000

    /// By itself, for five minutes.
    public init() {}
}

/// When a source connects its urgent channel: which of the two its destination expects.
///
/// Source: `x-preempt-pre-7-2`, `postcopy_preempt_setup` (`migration/migration.c`).
public enum PreemptTiming: String, CaseIterable, Sendable {
    /// Right behind the main channel. A QEMU up to 7.2 reads nothing before both are there.
    case atSetup = "at-setup"
    /// Once the destination has answered on the return path. A QEMU from 8.0 on expects no earlier one
    /// of a machine type from 8.0 on.
    case onceAnswered = "once-answered"

    /// What a QEMU with this machine type expects: its version is the end of the name
    /// (`pc-i440fx-7.2`).
    public init(machineType: String) {
        let version = machineType.split(separator: "-").last ?? ""
        let parts = version.split(separator: ".", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count == 2, let major = parts[0], parts[1] != nil, major < 8 else {
            self = .onceAnswered
            return
        }
        self = .atSetup
    }
}

/// How a source sends memory while the guest runs.
public struct PrecopyOptions: Sendable {
    /// How long the guest runs on, with the destination connected, before the first page is sent.
    public var warmUpNanoseconds: UInt64 = 0

    /// When it ends.
    public var switchover = SwitchoverSettings.usual

    /// Slows the guest's vCPUs where more is dirtied than sent; `nil`: never.
    public var autoConverge: AutoConverge.Settings?

    /// At once, ended by the automatic rule.
    public init() {}
}
