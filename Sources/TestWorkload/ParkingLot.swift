internal import LinuxKernel
internal import Synchronization

/// Where the vCPU threads of a workload wait between runs, and how they are told to come.
///
/// The vCPUs call `isCalled`, `sleep` and `park`; one controlling thread calls the rest.
final class ParkingLot: Sendable {
    enum Command: Equatable, Sendable {
        case park
        case run
        case end
    }

    private struct State {
        var command = Command.park
        /// The vCPUs inside `park`. A vCPU leaves the count itself, after it has read `.run`: so a
        /// vCPU that has not yet woken when the next `callIn` comes is still, and rightly, counted.
        var parked = 0
    }

    private let vcpuCount: Int
    private let state = Mutex(State())
    /// True from `callIn` to `letGo`. Relaxed: a vCPU that sees it late does a step more, and what
    /// the threads tell each other goes through `state`.
    private let called = Atomic<Bool>(true)
    /// Up while the vCPUs are called: ends their sleep.
    private let wake: EventFlag
    /// Up while parked vCPUs are to look at the command.
    private let leave: EventFlag
    /// Raised by the last vCPU to park.
    private let full: EventFlag

    init(vcpuCount: Int) throws(Errno) {
        self.vcpuCount = vcpuCount
        wake = try EventFlag()
        leave = try EventFlag()
        full = try EventFlag()
        wake.raise()
    }

    // MARK: The vCPUs' side

    /// Whether this vCPU shall park; asked before each step.
    @inline(__always)
    var isCalled: Bool { called.load(ordering: .relaxed) }

    /// Sleeps for `nanoseconds`, or until the vCPUs are called.
    func sleep(nanoseconds: UInt64) { _ = wake.wait(timeoutNanoseconds: nanoseconds) }

    /// Waits until this vCPU may run; false when it is to end.
    func park() -> Bool {
        let isLast = state.withLock { state in
            state.parked += 1
            return state.parked == vcpuCount
        }
        if isLast { full.raise() }
        while true {
            leave.wait()
            let command = state.withLock { state in
                if state.command == .run { state.parked -= 1 }
                return state.command
            }
            switch command {
            case .run: return true
            case .end: return false
            case .park: continue
            }
        }
    }

    // MARK: The controlling thread's side

    /// Tells every vCPU to park at the end of its step, and waits until all have.
    func callIn() {
        state.withLock { $0.command = .park }
        called.store(true, ordering: .relaxed)
        leave.clear()
        wake.raise()
        awaitFull()
    }

    /// Waits until every vCPU is parked.
    func awaitFull() {
        while true {
            // Cleared before the count is read: the vCPU that completes it raises afterwards.
            full.clear()
            if state.withLock({ $0.parked == vcpuCount }) { return }
            full.wait()
        }
    }

    /// Lets every vCPU run.
    func letGo() {
        wake.clear()
        called.store(false, ordering: .relaxed)
        state.withLock { $0.command = .run }
        leave.raise()
    }

    /// Lets every parked vCPU end, and those on their way.
    func end() {
        state.withLock { $0.command = .end }
        leave.raise()
    }

    /// Tells every vCPU to end behind its step, and waits for none.
    func dismiss() {
        state.withLock { $0.command = .end }
        called.store(true, ordering: .relaxed)
        wake.raise()
        leave.raise()
    }

    /// As after `init`, once the vCPUs there were have ended.
    func reset() {
        state.withLock { $0 = State() }
        leave.clear()
        full.clear()
    }
}
