internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// A guest whose members are functions of C.
@safe
final class CallbackGuest: Guest, @unchecked Sendable {
    // SAFETY: `callbacks` is never changed; what its functions and its context mean, and that they stay
    // valid, is the embedder's word (postcopy.h).
    private let callbacks: postcopy_guest
    let machineType: String
    let blocks: [RAMBlock]
    let faultOrigin: FaultOrigin
    let callers = CallbackThreads()
    /// What tells of writes, if the embedder does.
    let reports: ReportedWrites?
    private let progress = Mutex(Progress())

    /// What the callbacks left behind.
    private struct Progress: Sendable {
        var devices: [UInt8] = []
        var failure: String?
        /// Ends the migration as long as the guest has not moved.
        var cancel: (@Sendable () -> Void)?
    }

    init(_ pointer: UnsafePointer<postcopy_guest>?) throws(Failure) {
        let callbacks = try unsafe postcopy_guest.read(pointer)
        try unsafe Self.check(callbacks)
        machineType = try unsafe text(callbacks.machine_type, "postcopy_guest.machine_type")
        faultOrigin =
            unsafe callbacks.fault_origin == UInt32(POSTCOPY_FAULTS_USER_ONLY)
            ? .userOnly : .userAndKernel
        blocks = try unsafe Self.blocks(callbacks)
        let isReported = unsafe callbacks.tracking == UInt32(POSTCOPY_TRACK_REPORTS)
        reports = isReported ? ReportedWrites(blocks.map(\.ram.geometry)) : nil
        unsafe self.callbacks = callbacks
    }

    var memory: [GuestRAM] { blocks.map(\.ram) }

    /// Why the first callback that failed did so.
    var failure: String? { progress.withLock { $0.failure } }

    /// Says how a callback that fails before the guest has moved ends the migration; `nil` ends that.
    func onFailure(_ cancel: (@Sendable () -> Void)?) { progress.withLock { $0.cancel = cancel } }

    private static func check(_ guest: postcopy_guest) throws(Failure) {
        guard unsafe guest.pause != nil else { throw .null("postcopy_guest.pause") }
        guard unsafe guest.resume != nil else { throw .null("postcopy_guest.resume") }
        guard unsafe guest.save != nil else { throw .null("postcopy_guest.save") }
        guard unsafe guest.load != nil else { throw .null("postcopy_guest.load") }
        guard unsafe guest.reserved == 0 else {
            throw .invalid("postcopy_guest.reserved is not 0")
        }
        let (origin, tracking) = unsafe (Int(guest.fault_origin), Int(guest.tracking))
        guard [POSTCOPY_FAULTS_USER_AND_KERNEL, POSTCOPY_FAULTS_USER_ONLY].contains(origin) else {
            throw .invalid("postcopy_guest.fault_origin \(origin) is none")
        }
        guard POSTCOPY_TRACK_WRITE_PROTECTION...POSTCOPY_TRACK_REPORTS ~= tracking else {
            throw .invalid("postcopy_guest.tracking \(tracking) is none")
        }
    }

    /// More blocks than any machine has: memory in all of its slots is a few dozen.
    private static let blockCountMax = 1024

    @unsafe private static func blocks(_ guest: postcopy_guest) throws(Failure) -> [RAMBlock] {
        let count = unsafe guest.ram_count
        guard (0...blockCountMax).contains(count) else {
            throw .invalid("postcopy_guest.ram_count \(count) is over \(blockCountMax)")
        }
        guard count > 0 else { return [] }
        guard let handles = unsafe guest.ram else { throw .null("postcopy_guest.ram") }
        var blocks: [RAMBlock] = []
        for index in 0..<count { blocks.append(try unsafe Handles.find(unsafe handles[index])) }
        return blocks
    }
}

extension CallbackGuest {
    /// The devices are saved right behind: then a save that fails can still end the migration.
    func pause() {
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
                count = min(answer, threads.count)
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
        let size = Int(POSTCOPY_WHY_BYTES)
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { why in
            unsafe why.initialize(repeating: 0)
            let answer = callers.calling { unsafe call(why.baseAddress) }
            guard answer != 0 else { return true }
            let bytes = unsafe why.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            let reason = String(decoding: bytes, as: UTF8.self)
            note(
                reason.isEmpty
                    ? "the callback \(name) answered \(answer)"
                    : "the callback \(name): \(reason)")
            return false
        }
    }

    private func note(_ failure: String) {
        progress.withLock { progress in
            if progress.failure == nil { progress.failure = failure }
        }
    }

    /// The guest has not left yet: the source looks for this before the first byte of the package.
    private func endMigration() { progress.withLock { $0.cancel }?() }
}
