/// Why the kernel does not say when threads fault.
public struct FaultClockRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    /// Which part of the host refused.
    public enum Cause: Equatable, Sendable {
        /// The kernel has no such samples.
        case kernel
        /// A seccomp filter, as container engines install it, refuses the system call.
        case seccomp
        /// `kernel.perf_event_paranoid` is above what this process may do.
        case sysctlAndCapability
        /// The samples' memory passes what this process may lock.
        case lockedMemory
        /// More threads than `FaultClock.threadsMax`.
        case tooManyThreads
        /// None that is known.
        case other
    }

    /// Which part of the host refused.
    public let cause: Cause
    /// What the kernel answered.
    public let error: Errno

    public var description: String { "no kernel time of page faults (\(error)): \(reason)" }

    private var reason: String {
        switch cause {
        case .kernel:
            "the kernel lacks it; boot Linux 4.7 or later, built with CONFIG_PERF_EVENTS=y"
        case .seccomp:
            "a seccomp filter forbids the system call; allow perf_event_open in the container's profile"
        case .sysctlAndCapability:
            "no privilege; run with CAP_PERFMON, or set sysctl kernel.perf_event_paranoid=2"
        case .lockedMemory:
            "too little memory may be locked; raise ulimit -l or sysctl kernel.perf_event_mlock_kb, "
                + "or run with CAP_IPC_LOCK"
        case .tooManyThreads:
            "the guest has more than \(FaultClock.threadsMax) threads; the others are timed"
        case .other:
            "no known cause; see dmesg, ulimit -n and the security modules in use"
        }
    }

    /// Asks the process for its state and says what that and the error mean.
    static func opening(_ error: Errno) -> FaultClockRefusal {
        let filtered = SystemText.field("Seccomp", of: "/proc/self/status") == 2
        return FaultClockRefusal(cause: cause(opening: error, filtered: filtered), error: error)
    }

    static func mapping(_ error: Errno) -> FaultClockRefusal {
        FaultClockRefusal(cause: error == .notPermitted ? .lockedMemory : .other, error: error)
    }

    /// What the error of `perf_event_open` means.
    /// - Parameter filtered: whether a seccomp filter stands before the kernel.
    package static func cause(opening error: Errno, filtered: Bool) -> Cause {
        switch error {
        case .noSystemCall: filtered ? .seccomp : .kernel
        case .accessDenied: .sysctlAndCapability
        // The kernel itself says EACCES, a filter mostly EPERM.
        case .notPermitted: filtered ? .seccomp : .sysctlAndCapability
        // An event, or a flag of one, that it does not know.
        case .noEntry, .invalidArgument: .kernel
        default: .other
        }
    }
}
