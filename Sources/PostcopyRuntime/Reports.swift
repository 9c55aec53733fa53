public import FlightRecorder
internal import LinuxKernel
public import MigrationCore
public import PageModel

/// A status and when it was entered, on the monotonic clock of its host.
public struct StatusChange: Equatable, Sendable {
    /// What was entered.
    public let status: MigrationStatus
    /// When, on the monotonic clock of this host.
    public let atNanoseconds: UInt64
}

/// Bytes written to all channels, by the part of the migration they belong to, as QEMU names them.
public struct SentBytes: Equatable, Sendable {
    /// Until the guest was stopped.
    public var precopy: UInt64 = 0
    /// From the stop until the package was written.
    public var downtime: UInt64 = 0
    /// From then on.
    public var postcopy: UInt64 = 0

    /// Nothing sent yet.
    public init() {}

    /// All of them.
    public var total: UInt64 { precopy + downtime + postcopy }
}

/// What the source did and how it ended.
public struct SourceReport: Sendable {
    /// How it ended.
    public internal(set) var status = MigrationStatus.none
    /// What went wrong and what it means, in one line; `nil` when it completed.
    public internal(set) var problem: String?
    /// Whether the guest is left running at this side.
    public internal(set) var guestRunsHere = true
    /// The statuses that it went through: the first 64 and the latest.
    public internal(set) var changes: [StatusChange] = []
    /// When the run began.
    public internal(set) var startedAtNanoseconds: UInt64 = 0
    /// When it had ended.
    public internal(set) var endedAtNanoseconds: UInt64 = 0
    /// When the guest was asked to stop; `nil` when it never stopped.
    public internal(set) var guestStoppedAtNanoseconds: UInt64?
    /// When the destination's word arrived that it runs the guest.
    public internal(set) var committedAtNanoseconds: UInt64?
    /// The figures at the end.
    public internal(set) var progress = SourceProgress()
    /// Bytes that huge pages mapped at the start, as `GuestRAM.hugeBytes` counts them.
    public internal(set) var hugeBytesAtStart: UInt64?
    /// What the destination had to drop.
    public internal(set) var discards = DiscardTotals()
    /// `nil` when memory moved only after the guest.
    public internal(set) var precopy: PrecopyReport?
    /// Links that broke once the guest may have moved.
    public internal(set) var breaks: [LinkBreak] = []
    /// Whether somebody gave the guest up, here, while it was paused.
    public internal(set) var isAbandoned = false
    /// What was recorded of requests (`MigrationOptions.recordsFaults`); `nil` when nothing was.
    public internal(set) var faultLog: FaultLog?

    init() {}

    /// A source that could not even be made.
    public init(failure problem: String) {
        status = .failed
        self.problem = problem
        startedAtNanoseconds = Monotonic.now()
        endedAtNanoseconds = startedAtNanoseconds
        changes = [StatusChange(status: .failed, atNanoseconds: startedAtNanoseconds)]
    }

    /// From the guest's stop to the destination's commit, as this side saw it.
    public var downtimeNanoseconds: UInt64? {
        guard let stopped = guestStoppedAtNanoseconds, let committed = committedAtNanoseconds
        else { return nil }
        return committed - stopped
    }
}

/// Where a source stands; cheap to ask at any time, from any thread.
public struct SourceProgress: Equatable, Sendable {
    /// Where it stands.
    public var status = MigrationStatus.none
    /// All that the guest uses of the memory that is sent, in target pages.
    public var totalPages = 0
    /// Target pages not yet claimed by a sender.
    public var remainingPages = 0
    /// Bytes written to all channels.
    public var sentBytes = SentBytes()
    /// Target pages sent as content.
    public var normalPages: UInt64 = 0
    /// Target pages sent as zero.
    public var zeroPages: UInt64 = 0
    /// Target pages sent because somebody waited for them; part of the two above.
    public var urgentPages: UInt64 = 0
    /// Bytes written for those, to either channel; part of `sentBytes`.
    public var urgentBytes: UInt64 = 0
    /// Request messages received, duplicates included.
    public var requests: UInt64 = 0
    /// Guest memory given back as it was sent.
    public var releasedBytes: UInt64 = 0
    /// `nil` without precopy.
    public var precopy: PrecopyProgress?
    /// What became of its link.
    public var recovery = RecoveryProgress()

    /// Of a source that has not begun.
    public init() {}
}

/// What the destination did and how it ended.
public struct DestinationReport: Sendable {
    /// How it ended.
    public internal(set) var status = MigrationStatus.none
    /// What went wrong and what it means, in one line; `nil` when it completed.
    public internal(set) var problem: String?
    /// Whether the guest runs at this side (its threads may wait for pages when paused).
    public internal(set) var guestRunsHere = false
    /// The statuses that it went through: the first 64 and the latest.
    public internal(set) var changes: [StatusChange] = []
    /// When every page was here, or it had ended otherwise.
    public internal(set) var endedAtNanoseconds: UInt64 = 0
    /// When the guest was told to run; `nil` when it was not.
    public internal(set) var guestRunningAtNanoseconds: UInt64?
    /// The figures at the end.
    public internal(set) var progress = DestinationProgress()
    /// How long its vCPUs waited for pages; `nil` when no source came.
    public internal(set) var blocktime: BlocktimeReport?
    /// Blocks of which pages are missing, with how many host pages.
    public internal(set) var missing: [MissingPages] = []
    /// Faults of the kernel itself could be served as well.
    public internal(set) var faultOrigin = ""
    /// How its memory is mapped.
    public internal(set) var memory = MemoryReport()
    /// Links that broke once the guest may have moved.
    public internal(set) var breaks: [LinkBreak] = []
    /// Whether somebody gave the guest up while it was paused.
    public internal(set) var isAbandoned = false
    /// What was recorded of faults (`MigrationOptions.recordsFaults`); `nil` when nothing was.
    public internal(set) var faultLog: FaultLog?
    /// Why the kernel did not say when faults began, with the remedy; `nil` where it did, or was not
    /// asked (`MigrationOptions.timesFaultsInKernel`).
    public internal(set) var faultClockProblem: String?

    /// Whether the link broke at the very end: every page is here.
    public var isPausedWithAllPages: Bool { status == .postcopyPaused && missing.isEmpty }
}

/// How a destination's memory is mapped. Bytes of huge pages are as `GuestRAM.hugeBytes` counts them.
public struct MemoryReport: Equatable, Sendable {
    /// Once every page was there and, if asked for, huge pages were rebuilt; else `nil`.
    public internal(set) var hugeBytesAtEnd: UInt64?
    /// Ranges that were rebuilt as one huge page each.
    public internal(set) var healedRanges = 0
    /// How long that took; `nil` when it was not asked for.
    public internal(set) var healNanoseconds: UInt64?
    /// Why memory that was locked before is not locked any more, with the remedy.
    public internal(set) var lockProblem: String?
}

/// Where a destination stands; cheap to ask at any time, from any thread.
public struct DestinationProgress: Equatable, Sendable {
    /// Where it stands.
    public var status = MigrationStatus.none
    /// All that the guest uses, in host pages.
    public var totalHostPages = 0
    /// Host pages that are not here yet.
    public var missingHostPages = 0
    /// Bytes read from all channels.
    public var receivedBytes: UInt64 = 0
    /// Target pages placed by the stream.
    public var backgroundPages: UInt64 = 0
    /// Target pages placed by the urgent channel.
    public var urgentPages: UInt64 = 0
    /// Of both, those that were zero and placed as such.
    public var zeroPages: UInt64 = 0
    /// Page requests sent.
    public var requests: UInt64 = 0
    /// Threads seen waiting for a page.
    public var faults: UInt64 = 0
    /// vCPUs that wait for a page now.
    public var waitingVCPUs = 0
    /// The waits of all threads that have ended, by their length.
    public var latency = LatencyBuckets()
    /// The sum of those waits.
    public var waitedNanoseconds: UInt64 = 0
    /// Migrations that connected while this one ran, and were turned away.
    public var otherMigrations: UInt64 = 0
    /// What became of its link.
    public var recovery = RecoveryProgress()

    /// Of a destination that has not begun.
    public init() {}
}
