internal import Synchronization

/// A vCPU on a thread of its own, which stands still at first.
///
/// It must be ended: the thread keeps it, the vCPU and what `whenLeft` holds.
/// Threads: any may use it; `resume`, `pause` and `end` one at a time.
public final class VCPUThread: Sendable {
    private let vcpu: KVMVCPU
    private let leave: @Sendable (Result<VCPUExit, Errno>) -> Bool
    private let thread = Mutex<JoinableThread<Void>?>(nil)
    // Relaxed: written before `isStopped` is raised for the first time, read behind that.
    private let number = Atomic<Int32>(0)
    // Sequentially consistent: changed before the vCPU is stopped, looked at behind that.
    private let mayRun = Atomic(false)
    private let isOver = Atomic(false)
    /// Whether an exit was not taken. The thread's alone.
    private let isSpent = Atomic(false)
    private let orders: EventFlag
    /// Raised while the thread is not in the guest.
    private let isStopped: EventFlag

    /// Starts the thread, which has the kernel's id when this returns.
    /// - Parameters:
    ///   - name: the kernel keeps 15 bytes of it.
    ///   - leave: called by the thread when the guest has left, except by `.interrupted`, or when
    ///     `KVM_RUN` failed; answers whether the guest goes on. If not, it stands still for good: what it
    ///     asked for is half done.
    /// - Throws: `EAGAIN` when the process may have no more threads, or `EMFILE`.
    public init(
        _ vcpu: consuming KVMVCPU, name: String,
        whenLeft leave: @escaping @Sendable (Result<VCPUExit, Errno>) -> Bool
    ) throws(Errno) {
        self.vcpu = vcpu
        self.leave = leave
        orders = try EventFlag()
        isStopped = try EventFlag()
        var started = Optional(try JoinableThread(name: name) { [self] in serve() })
        thread.withLock { $0 = started.take() }
        isStopped.wait()
    }

    /// The kernel's id, by which page faults of the guest are told apart (`Guest.vcpuThreads`).
    public var threadID: Int32 { number.load(ordering: .relaxed) }

    /// Lets the guest run. Without effect while it does.
    ///
    /// Blocking: until it has left, where it was only asked to pause.
    public func resume() {
        guard !mayRun.load(ordering: .sequentiallyConsistent) else { return }
        // An order that it does not wait for would be obeyed at its next stop.
        isStopped.wait()
        mayRun.store(true, ordering: .sequentiallyConsistent)
        isStopped.clear()
        orders.raise()
    }

    /// Stops the guest: what it wrote is in memory then, and where it stands in `state`.
    ///
    /// Blocking: until it has left. From Linux 6.2 on it leaves a missing page that it waits for, unless
    /// KVM carries the instruction out itself; otherwise this waits until that page is there.
    public func pause() {
        requestPause()
        isStopped.wait()
    }

    /// Has the guest stop soon, and does not wait for that.
    public func requestPause() {
        mayRun.store(false, ordering: .sequentiallyConsistent)
        vcpu.stop()
    }

    /// Stops the guest and ends the thread. The last call.
    public func end() {
        pause()
        isOver.store(true, ordering: .sequentiallyConsistent)
        orders.raise()
        let ended = thread.withLock { $0.take() }
        ended?.join()
    }

    /// Where the vCPU stands. While it is stopped.
    public func state() throws(Errno) -> VCPUState { try vcpu.state() }

    private func serve() {
        number.store(currentThreadID(), ordering: .relaxed)
        while true {
            isStopped.raise()
            orders.wait()
            orders.clear()
            if isOver.load(ordering: .sequentiallyConsistent) { return }
            if !isSpent.load(ordering: .relaxed) { runGuest() }
        }
    }

    /// Runs the guest until it is to stop.
    ///
    /// It stops nowhere but behind `.interrupted`: an OUT that made the guest leave is complete only
    /// once the kernel was entered again, and would else be done twice, here and where the state goes.
    private func runGuest() {
        while true {
            let exit = Result { () throws(Errno) in try vcpu.run() }
            if exit == .success(.interrupted) {
                if !mayRun.load(ordering: .sequentiallyConsistent) { return }
            } else if !leave(exit) {
                isSpent.store(true, ordering: .relaxed)
                return
            }
        }
    }
}
