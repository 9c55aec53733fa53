public import LinuxKernel
public import PageModel

/// Why a guest does not take the device state it was given, in one line for the user.
public struct GuestError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String

    /// A reason in the words of the guest.
    public init(_ description: String) { self.description = description }
}

/// What of a guest's stream is not the guest: where it differs from that of a guest of this library's
/// own, another source has made it up, and a destination may rely on it.
public struct StreamIdentity: Equatable, Sendable {
    /// Subsections of the head, byte for byte (`StreamIntroduction.configuration`).
    public let configuration: [UInt8]
    /// The id of the section `ram`: not 0, and no device's.
    public let ramSection: UInt32

    /// That of a guest of this library's own, unless said otherwise.
    public init(configuration: [UInt8] = [], ramSection: UInt32 = 1) {
        self.configuration = configuration
        self.ramSection = ramSection
    }
}

/// What the runtime knows of a guest: memory as RAM blocks, device state, and how to stop and start.
///
/// The runtime calls it from its control thread, one call at a time. Only `pause` and `loadDevices`, which
/// may take long, have threads of their own; `throttle` comes from the thread that sends, beside any other
/// call, and `makeDirtyTracker` from whoever makes the source.
///
/// A migration holds on to its guest and to the RAM blocks that the guest had when the migration was made.
public protocol Guest: AnyObject, Sendable {
    /// Named in the stream's head; source and destination must agree.
    var machineType: String { get }

    /// What else stands in the stream of this guest; left out by a guest that was configured here.
    var streamIdentity: StreamIdentity { get }

    /// The RAM blocks, in the same order at both sides. Only the guest's own threads touch them. They
    /// stay the same, but for what is used of a resizable one (`GuestRAM.resize`).
    var memory: [GuestRAM] { get }

    /// The kernel's ids of the vCPU threads, for blocktime; asked for once the devices are loaded.
    var vcpuThreads: [Int32] { get }

    /// Where the vCPUs note that they halt and go on, so that a halted one does not count as running
    /// while the others wait for pages; asked for with `vcpuThreads`. A guest that does not see its
    /// vCPUs halt leaves this out, and they count as running whenever they are not blocked.
    var halts: VCPUHalts? { get }

    /// Whose page faults must be reported for this guest.
    var faultOrigin: FaultOrigin { get }

    /// Stops every vCPU; returns when none runs any more.
    ///
    /// One that does not return within `MigrationOptions.pauseNanosecondsMax`, or whose migration ends
    /// meanwhile, is undone: `resume` follows on the same thread once it has returned. For that a
    /// migration that ends meanwhile waits, until the same limit.
    func pause()

    /// Lets every vCPU run, after `pause` or `loadDevices`.
    func resume()

    /// The state of all devices and vCPUs as sections of the stream (`SECTION_FULL`). Paused.
    func saveDevices() -> [UInt8]

    /// Takes what `saveDevices` gave at the source. It may touch guest memory: the pages come.
    /// - Throws: what is wrong with it; then the guest goes on at the source.
    func loadDevices(_ sections: [UInt8]) throws(GuestError)

    /// Every page is here, and the source forgets the guest once this returns: for a guest that is to be
    /// kept in a safer place first. It runs meanwhile; a guest without such a place leaves this out.
    func memoryArrived()

    /// The missing pages will never come: somebody gave the guest up while it was paused. Once this
    /// returns, threads that wait for one get a memory error (`SIGBUS`, as of a page that the hardware
    /// lost) where the kernel has `UFFDIO_POISON`, from Linux 6.6 on, and zeros elsewhere.
    ///
    /// A VMM stops its vCPUs here. One that leaves this out has its threads meet the error.
    func memoryLost(_ missing: [MissingPages])

    /// Slows the vCPUs down, so that a precopy that cannot keep up with what they write converges;
    /// while the guest runs, and until the next call.
    ///
    /// A guest without the means leaves this out, and its vCPUs run on as they do.
    ///
    /// Source: `cpu_throttle_set` of QEMU (`cpu-throttle.c`).
    /// - Parameter percent: the share of time in which no vCPU shall run, 1 to 99; 0 lifts it.
    func throttle(percent: Int)

    /// What tells a precopy which pages the guest writes; asked for once for each migration.
    /// - Parameter ignored: blocks that are not sent.
    /// - Throws: why there is none.
    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker
}

extension Guest {
    public var streamIdentity: StreamIdentity { StreamIdentity() }

    /// None: every vCPU counts as running whenever it is not blocked.
    public var halts: VCPUHalts? { nil }

    public func memoryArrived() {}

    public func memoryLost(_ missing: [MissingPages]) {}

    public func throttle(percent: Int) {}

    /// Tracks writes of this process's threads by asynchronous write protection (Linux 6.7). A guest
    /// whose vCPUs run in KVM has a tracker of its own.
    public func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker {
        WriteProtectTracker(memory, ignoring: ignored)
    }
}
