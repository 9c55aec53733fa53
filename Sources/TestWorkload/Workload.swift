public import LinuxKernel
internal import PageModel
internal import Synchronization

/// A guest made of vCPU threads that access one block of RAM in a way that can be computed again.
///
/// Life: `fill` at the source, then `start`; or `restore` at the destination, then `resume`. Then
/// `pause` and `resume` in turn, and `stop` at the end, which must come before the last reference
/// goes: a thread left running traps.
///
/// Threads: one at a time calls `fill`, `start`, `restore`, `pause`, `resume`, `stop`; two at once
/// trap. The rest may be read from any thread. Only vCPU threads and `fill` touch memory.
public final class Workload: Sendable {
    private enum Phase {
        case fresh, running, paused, stopped
        /// The vCPUs are ending, and nobody has waited for them.
        case dismissed
    }

    private struct Life {
        var phase = Phase.fresh
        var vcpus: [VCPU] = []
        var stallProbes: [StallProbe] = []
    }

    public let specification: WorkloadSpecification
    private let ram: GuestRAM
    private let lot: ParkingLot
    private let throttle = Throttle()
    private let threads = VCPUThreads()
    /// Held for single looks and changes, never while waiting.
    private let life = Mutex(Life())
    /// Set while a controlling call is under way. Acquiring and releasing, as a lock is.
    private let isControlled = Atomic<Bool>(false)

    /// Creates no thread and touches no memory.
    /// - Throws: `WorkloadError.memoryLength` when `ram` is not as long as the specification says;
    ///   `.kernel` when there is no eventfd.
    public init(specification: WorkloadSpecification, ram: GuestRAM) throws(WorkloadError) {
        try specification.check(ram)
        self.specification = specification
        self.ram = ram
        do throws(Errno) {
            lot = try ParkingLot(vcpuCount: specification.vcpuCount)
        } catch {
            throw .kernel(error)
        }
    }

    /// Writes the initial content. Pages that are zero are left alone, so that they cost no memory.
    ///
    /// - Parameter threads: how many threads may write; below 1 counts as 1.
    /// - Precondition: memory is all zero, and the workload was neither started nor restored.
    public func fill(threads: Int, progress: WorkloadProgressHandler? = nil) {
        control {
            precondition(phase == .fresh, "fill comes before start")
            let content = ContentModel(specification: specification)
            let pageCount = specification.pageCount
            let counter = ProgressCounter(.filling, total: UInt64(pageCount), progress)
            let ram = ram
            let pieces = PagePieces.count(ofPages: pageCount)
            SharedTask.run(pieces: pieces, threads: threads) { piece in
                let pages = PagePieces.range(piece, ofPages: pageCount)
                for page in pages where !content.isInitiallyZero(page: page) {
                    let offset = UInt64(page) * WorkloadSpecification.pageBytes
                    let length = Int(WorkloadSpecification.pageBytes)
                    ram.withMutablePage(at: offset, lengthBytes: length) { words in
                        content.expectedPage(page, writes: 0, into: &words)
                    }
                }
                counter.add(UInt64(pages.count))
            }
        }
    }

    /// Creates the vCPUs, threads named vcpu0 and so on, and lets them run from the first step.
    /// - Throws: `WorkloadError.kernel` when there is no thread; the workload is as before.
    public func start() throws(WorkloadError) {
        try controlThrowing { () throws(WorkloadError) in
            try createVCPUs(WorkloadState(initialOf: specification))
            letGo()
        }
    }

    /// Creates the vCPUs, parked where `state` says. Touches no memory: pages may be missing.
    /// - Throws: `WorkloadError.otherWorkload` when `state` has another specification; `.kernel`
    ///   when there is no thread; the workload is as before.
    public func restore(_ state: WorkloadState) throws(WorkloadError) {
        guard state.specification == specification else { throw .otherWorkload }
        try controlThrowing { () throws(WorkloadError) in try createVCPUs(state) }
    }

    /// Parks every vCPU at the end of its step and returns when all are. Nothing when paused.
    ///
    /// A sleeping vCPU is woken, so this takes some 0.1 ms; but a vCPU that waits for a missing
    /// page ends its step only when the page has come, and this waits for it without limit.
    public func pause() {
        control {
            switch phase {
            case .running:
                lot.callIn()
                life.withLock { $0.phase = .paused }
            case .paused, .dismissed: break
            case .fresh, .stopped: preconditionFailure("pause needs vCPUs")
            }
        }
    }

    /// Lets parked vCPUs go on. Nothing when they run.
    public func resume() {
        control {
            switch phase {
            case .paused: letGo()
            case .running, .dismissed: break
            case .fresh, .stopped: preconditionFailure("resume needs vCPUs")
            }
        }
    }

    /// Ends and joins the vCPU threads at the end of their step. Waits for missing pages as `pause`
    /// does. Nothing when there are none.
    public func stop() {
        control {
            switch phase {
            case .running: lot.callIn()
            case .paused, .dismissed: break
            case .fresh, .stopped: return
            }
            lot.end()
            let probes = threads.join()
            life.withLock { life in
                life.phase = .stopped
                life.stallProbes = probes
            }
        }
    }

    /// Ends the vCPU threads at the end of their step without waiting for them, since they may wait
    /// for pages; `stop` joins them. Nothing when there are none.
    public func dismiss() {
        control {
            switch phase {
            case .running, .paused:
                lot.dismiss()
                life.withLock { $0.phase = .dismissed }
            case .fresh, .stopped, .dismissed: break
            }
        }
    }

    /// Keeps every vCPU from running for `percent` of the time, 1 to 99; 0 lets them run.
    ///
    /// A vCPU runs for 10 ms and pauses for as long as makes up the share, 0.99 s at 99. Callable at
    /// any time and from any thread; a pause under way is ended by `pause` and `stop` alone.
    /// - Precondition: `percent` is 0...99.
    public func throttle(percent: Int) { throttle.set(percent: percent) }

    /// How far every vCPU has come.
    /// - Precondition: the vCPUs are paused or stopped.
    public func saveState() -> WorkloadState {
        let vcpus = life.withLock { life in
            precondition(
                life.phase == .paused || life.phase == .stopped, "saveState needs parked vCPUs")
            return life.vcpus
        }
        return WorkloadState(specification: specification, generators: vcpus.map(\.state))
    }

    /// The kernel's ids of the vCPU threads, in the order of vCPUs; empty before `start` or
    /// `restore`, of ended threads after `stop`.
    public var vcpuThreadIDs: [Int32] { life.withLock { $0.vcpus.map(\.threadID) } }

    /// The steps of all vCPUs together, also those before `restore`. At any time, cheap, and a
    /// moment behind the vCPUs.
    public var stepsDone: UInt64 { life.withLock { $0.vcpus.reduce(0) { $0 &+ $1.stepsDone } } }

    /// The long accesses of each vCPU since `start` or `restore`; empty before `stop`.
    public var stallProbes: [StallProbe] { life.withLock { $0.stallProbes } }

    /// Lost pages that each vCPU has touched, in the order of vCPUs; of `stop`ped ones.
    public var lostPagesTouched: [Int] { life.withLock { $0.vcpus.map(\.lostPagesTouched) } }

    // MARK: Control

    private var phase: Phase { life.withLock { $0.phase } }

    private func letGo() {
        life.withLock { $0.phase = .running }
        lot.letGo()
    }

    /// Leaves all vCPUs parked, or, when one cannot be created, none in existence.
    private func createVCPUs(_ state: WorkloadState) throws(WorkloadError) {
        precondition(phase == .fresh, "a workload is started or restored once")
        let vcpus = state.generators.enumerated().map {
            VCPU($0.offset, specification, ram, lot, throttle, state: $0.element)
        }
        do throws(Errno) {
            for vcpu in vcpus { try threads.add(vcpu) }
        } catch {
            lot.end()
            _ = threads.join()
            lot.reset()
            throw .kernel(error)
        }
        lot.awaitFull()
        life.withLock { life in
            life.phase = .paused
            life.vcpus = vcpus
        }
    }

    private func control(_ body: () -> Void) { controlThrowing(body) }

    private func controlThrowing<E: Error>(_ body: () throws(E) -> Void) throws(E) {
        let wasControlled = isControlled.exchange(true, ordering: .acquiringAndReleasing)
        precondition(!wasControlled, "two threads control one workload")
        defer { isControlled.store(false, ordering: .releasing) }
        try body()
    }
}
