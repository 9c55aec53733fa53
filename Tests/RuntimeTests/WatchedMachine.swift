import LinuxKernel
import PageModel
import PostcopyRuntime
import Synchronization

@testable import kvm

let hostHasKVM = (try? KVMMachine.open()) != nil

/// The example's machine with hooks for a test: where its guest is stopped and started, and before its
/// dirty log.
final class WatchedMachine: Guest {
    typealias Tracking = @Sendable (any DirtyTracker, WatchedMachine) -> any DirtyTracker

    let machine: FlatMachine
    /// Whether the runtime may start the guest; if not, a test does.
    private let mayRun: Bool
    private let tracking: Tracking
    private let stopped = Atomic(false)
    private let pauseHook = Mutex<@Sendable () -> Void>({})
    private let resumeHook = Mutex<@Sendable () -> Void>({})

    init(
        _ machine: FlatMachine, mayRun: Bool = true,
        tracking: @escaping Tracking = { log, _ in log }
    ) {
        self.machine = machine
        self.mayRun = mayRun
        self.tracking = tracking
    }

    /// Whether the guest was stopped by the runtime.
    var isStopped: Bool { stopped.load(ordering: .sequentiallyConsistent) }

    /// Does this when the guest is to stop, while it runs.
    func onPause(_ body: @escaping @Sendable () -> Void) { pauseHook.withLock { $0 = body } }

    /// Does this when the guest is to run, once it does.
    func onResume(_ body: @escaping @Sendable () -> Void) { resumeHook.withLock { $0 = body } }

    var machineType: String { machine.machineType }
    var memory: [GuestRAM] { machine.memory }
    var vcpuThreads: [Int32] { machine.vcpuThreads }
    var faultOrigin: FaultOrigin { machine.faultOrigin }

    func pause() {
        pauseHook.withLock { $0 }()
        machine.pause()
        stopped.store(true, ordering: .sequentiallyConsistent)
    }

    func resume() {
        if mayRun { machine.resume() }
        resumeHook.withLock { $0 }()
    }

    func saveDevices() -> [UInt8] { machine.saveDevices() }
    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        try machine.loadDevices(sections)
    }
    func memoryLost(_ missing: [MissingPages]) { machine.memoryLost(missing) }

    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker {
        tracking(try machine.makeDirtyTracker(ignoring: ignored), self)
    }
}

/// A tracker with a planted bug: what it finds once the guest was stopped is lost.
final class LastSyncLost: DirtyTracker {
    private let honest: any DirtyTracker
    private let guest: WatchedMachine

    init(_ honest: any DirtyTracker, of guest: WatchedMachine) {
        self.honest = honest
        self.guest = guest
    }

    func check() throws(TrackerRefusal) { try honest.check() }
    func start() throws(TrackerRefusal) { try honest.start() }
    func stop() { honest.stop() }

    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        if guest.isStopped { return 0 }
        return try honest.sync(block, into: dirty)
    }

    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try honest.clear(block, pages)
    }

    func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try honest.forget(block, pages)
    }
}
