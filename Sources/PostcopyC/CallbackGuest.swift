internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// A guest whose members are functions of C.
@safe
final class CallbackGuest: Guest, @unchecked Sendable {
    // SAFETY: `callbacks` is never changed; what its functions and its context mean, and that they
    // stay valid, is the embedder's word (postcopy.h).
    private let callbacks: postcopy_guest
    let machineType: String
    let blocks: [RAMBlock]
    let faultOrigin: FaultOrigin
    let callers = CallbackThreads()
    /// What tells of writes, if the embedder does.
    let reports: ReportedWrites?
    private let progress = Mutex(Progress())
    /// Raised while the guest is not stopped by us.
    private let goesOn: EventFlag

    /// What the callbacks left behind.
    private struct Progress: Sendable {
        /// From a call of `pause` on, until `resume` has returned.
        var isStopped = false
        var devices: [UInt8] = []
        var failure: String?
        /// Ends the migration as long as the guest has not moved.
        var cancel: (@Sendable () -> Void)?
    }

    init(_ pointer: UnsafePointer<postcopy_guest>?) throws(Failure) {
        let callbacks = try unsafe postcopy_guest.read(pointer)
        goesOn = try coded { try EventFlag() }
        goesOn.raise()
        try unsafe Self.check(callbacks)
        machineType = try unsafe text(callbacks.machine_type, "postcopy_guest.machine_type")
        faultOrigin = try FaultOrigin(unsafe callbacks.fault_origin, "postcopy_guest")
        blocks = try unsafe [RAMBlock](callbacks.ram, callbacks.ram_count)
        let isReported = unsafe callbacks.tracking == UInt32(POSTCOPY_TRACK_REPORTS)
        reports = isReported ? ReportedWrites(blocks.map(\.ram.geometry)) : nil
        unsafe self.callbacks = callbacks
    }

    var memory: [GuestRAM] { blocks.map(\.ram) }

    /// Whether the guest stands still, or is about to.
    var isStopped: Bool { progress.withLock { $0.isStopped } }

    /// Waits until a guest goes on whose `pause` or `save` has failed: `resume` follows at once, from
    /// whichever thread comes to it first.
    func awaitResume() {
        guard failure != nil else { return }
        _ = goesOn.wait(timeoutNanoseconds: Self.resumeNanosecondsMax)
    }

    /// Longer than starting vCPU threads takes on a busy host.
    private static let resumeNanosecondsMax: UInt64 = 10_000_000_000

    /// Why the first callback that failed did so.
    var failure: String? { progress.withLock { $0.failure } }

    /// Says how a callback that fails before the guest has moved ends the migration; `nil` ends
    /// that.
    func onFailure(_ cancel: (@Sendable () -> Void)?) { progress.withLock { $0.cancel = cancel } }

    private static func check(_ guest: postcopy_guest) throws(Failure) {
        guard unsafe guest.pause != nil else { throw .null("postcopy_guest.pause") }
        guard unsafe guest.resume != nil else { throw .null("postcopy_guest.resume") }
        guard unsafe guest.save != nil else { throw .null("postcopy_guest.save") }
        guard unsafe guest.load != nil else { throw .null("postcopy_guest.load") }
        guard unsafe guest.reserved == 0 else {
            throw .invalid("postcopy_guest.reserved is not 0")
        }
        let tracking = unsafe Int(guest.tracking)
        guard POSTCOPY_TRACK_WRITE_PROTECTION...POSTCOPY_TRACK_REPORTS ~= tracking else {
            throw .invalid("postcopy_guest.tracking \(tracking) is none")
        }
    }
}

extension CallbackGuest {
    /// The devices are saved right behind: then a save that fails can still end the migration.
    func pause() {
        progress.withLock { $0.isStopped = true }
        goesOn.clear()
        guard unsafe ask("pause", { why in unsafe callbacks.pause(callbacks.context, why) }) else {
            return endMigration()
        }
        let sink = Sink()
        let handle = unsafe Handles.add(sink)
        let isSaved = unsafe ask("save") { why in
            unsafe callbacks.save(callbacks.context, handle, why)
        }
        unsafe Handles.remove(handle)
        guard isSaved, let bytes = sink.close() else {
            if isSaved { note("the callback save wrote over \(Sink.bytesMax) bytes") }
            return endMigration()
        }
        progress.withLock { $0.devices = bytes }
    }

    func resume() {
        _ = unsafe ask("resume") { why in unsafe callbacks.resume(callbacks.context, why) }
        progress.withLock { $0.isStopped = false }
        goesOn.raise()
    }

    func saveDevices() -> [UInt8] { progress.withLock { $0.devices } }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        let isLoaded = unsafe sections.withUnsafeBytes { bytes in
            unsafe ask("load") { why in
                unsafe callbacks.load(callbacks.context, bytes.baseAddress, bytes.count, why)
            }
        }
        guard isLoaded else { throw GuestError(failure ?? "the callback load failed") }
    }

    /// As many vCPUs as KVM's largest machines have (KVM_MAX_VCPUS of x86).
    private static let vcpuCountMax = 4096

    var vcpuThreads: [Int32] {
        guard let ask = unsafe callbacks.vcpu_threads else { return [] }
        return callers.calling {
            unsafe [Int32](unsafeUninitializedCapacity: Self.vcpuCountMax) { threads, count in
                unsafe threads.initialize(repeating: 0)
                let answer = unsafe ask(callbacks.context, threads.baseAddress, threads.count)
                // As a size of C's, -1 is more than there is room for; here it is less than none.
                count = max(0, min(answer, threads.count))
            }
        }
    }

    func memoryArrived() {
        guard let tell = unsafe callbacks.memory_arrived else { return }
        callers.calling { unsafe tell(callbacks.context) }
    }

    func memoryLost(_ missing: [MissingPages]) {
        guard let tell = unsafe callbacks.memory_lost else { return }
        let rows = MissingRows(missing)
        callers.calling { unsafe tell(callbacks.context, rows.pointer, rows.count) }
    }

    func throttle(percent: Int) {
        guard let tell = unsafe callbacks.throttle else { return }
        callers.calling { unsafe tell(callbacks.context, UInt32(clamping: percent)) }
    }

    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker {
        if let reports { return reports }
        guard unsafe callbacks.tracking == UInt32(POSTCOPY_TRACK_KVM) else {
            return WriteProtectTracker(memory, ignoring: ignored)
        }
        return try unsafe KVMDirtyLog(callbacks, memory)
    }

    /// Calls a function that may fail.
    /// - Returns: whether it went well; if not, the reason was kept.
    private func ask(
        _ name: String, _ call: (UnsafeMutablePointer<CChar>?) -> Int32
    ) -> Bool {
        let (answer, reason) = callers.calling { unsafe askingWhy(call) }
        guard answer != 0 else { return true }
        note(
            reason.map { "the callback \(name): \($0)" }
                ?? "the callback \(name) answered \(answer)")
        return false
    }

    private func note(_ failure: String) {
        progress.withLock { progress in
            if progress.failure == nil { progress.failure = failure }
        }
    }

    /// The guest has not left yet: the source looks for this before the first byte of the package.
    private func endMigration() { progress.withLock { $0.cancel }?() }
}
