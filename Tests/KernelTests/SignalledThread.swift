import Glibc
import LinuxKernel
import Synchronization
import Testing

/// A thread that a test interrupts while it waits in the kernel.
struct SignalledThread<Output: Sendable>: ~Copyable {
    private let thread: JoinableThread<Output>
    private let identity: Identity

    private final class Identity: Sendable {
        // Releasing and acquiring: set by the thread, used by the test.
        let handle = Atomic<UInt>(0)
        let threadID = Mailbox()
    }

    init(_ body: @escaping @Sendable () -> Output) throws {
        signal(SIGUSR2) { _ in _ = signalsHandled.add(1, ordering: .relaxed) }
        let identity = Identity()
        let ready = try EventFlag()
        let thread = try JoinableThread(name: "signalled") {
            // The threads of a test runner block signals, and theirs inherit that.
            var mask = sigset_t()
            unsafe sigemptyset(&mask)
            unsafe sigaddset(&mask, SIGUSR2)
            unsafe pthread_sigmask(SIG_UNBLOCK, &mask, nil)
            identity.threadID.put(currentThreadID())
            identity.handle.store(UInt(pthread_self()), ordering: .releasing)
            ready.raise()
            return body()
        }
        ready.wait()
        self.thread = thread
        self.identity = identity
    }

    /// Sends a signal once the thread sleeps, and comes back when it sleeps again. A thread that
    /// has ended, as one that a signal threw out of its wait, is left alone.
    func interrupt() {
        awaitSleep()
        if state.isEmpty { return }
        let before = signalsHandled.load(ordering: .acquiring)
        pthread_kill(pthread_t(identity.handle.load(ordering: .acquiring)), SIGUSR2)
        wait("the handler") { signalsHandled.load(ordering: .acquiring) > before }
        awaitSleep()
    }

    /// Comes back when the thread sleeps in the kernel.
    func awaitSleep() {
        wait("sleep") {
            // The state stands behind the name, which stands in parentheses.
            state.split(separator: ")").last?.hasPrefix(" S") ?? true
        }
    }

    /// What proc(5) says of the thread; nothing once it has ended.
    private var state: String {
        HostUnderTest.readText("/proc/self/task/\(identity.threadID.value)/stat")
    }

    consuming func join() -> Output { thread.join() }

    private func wait(_ what: String, until isDone: () -> Bool) {
        let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
        while !isDone() {
            guard Monotonic.now() < deadline else {
                Issue.record("the thread did not reach \(what)")
                return
            }
            sched_yield()
        }
    }
}

/// How many signals the handler took, in all tests.
private let signalsHandled = Atomic<Int>(0)
