internal import CShims
internal import Glibc

/// Whose missing pages are reported.
public enum FaultOrigin: String, Sendable {
    /// Also those that the kernel meets, in system calls or KVM. Needs privilege.
    case userAndKernel = "user and kernel"
    /// Only those of code in user mode; the kernel's end in `EFAULT`.
    case userOnly = "user only"
}

/// Why no userfaultfd can be had, told by both ways to one.
public struct UserfaultfdRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Cause: Equatable, Sendable {
        /// The kernel was built without it.
        case kernelConfiguration
        /// A seccomp filter, as container engines install it, refuses the system call.
        case seccomp
        /// `vm.unprivileged_userfaultfd` is 0 and the process has no `CAP_SYS_PTRACE`.
        case sysctlAndCapability
        /// The device is there and may not be opened.
        case devicePermission
        /// The kernel has userfaultfd, without the features named.
        case missingFeatures(String)
        case other
    }

    public let cause: Cause
    public let deviceError: Errno
    public let systemCallError: Errno

    public var description: String {
        let place =
            "userfaultfd refused (/dev/userfaultfd: \(deviceError); "
            + "system call: \(systemCallError))"
        return "\(place): \(reason)"
    }

    private var reason: String {
        switch cause {
        case .kernelConfiguration:
            "the kernel lacks it; boot one built with CONFIG_USERFAULTFD=y"
        case .seccomp:
            "a seccomp filter forbids the system call; allow userfaultfd in the container's profile, "
                + "or give the container /dev/userfaultfd"
        case .sysctlAndCapability:
            "no privilege; run as root or with CAP_SYS_PTRACE, grant read and write on "
                + "/dev/userfaultfd, or set sysctl vm.unprivileged_userfaultfd=1"
        case .devicePermission:
            "no permission on the device; grant this user read and write on /dev/userfaultfd"
        case .missingFeatures(let names):
            "the kernel lacks \(names); boot a newer one"
        case .other:
            "no known cause; see dmesg and the security modules in use"
        }
    }

    /// Asks the process for its state and says what that and the two errors mean.
    /// - Parameter userModeOnly: the answer when only faults of user mode were asked for, or `nil`.
    static func classify(
        device: Errno, systemCall: Errno, userModeOnly: Errno?
    ) -> UserfaultfdRefusal {
        let filtered = SystemText.field("Seccomp", of: "/proc/self/status") == 2
        let capabilities = SystemText.field("CapEff", of: "/proc/self/status", radix: 16) ?? 0
        let traceCapability: UInt64 = 1 << 19  // CAP_SYS_PTRACE
        let openToAll = SystemText.number("/proc/sys/vm/unprivileged_userfaultfd") == 1
        let cause = cause(
            device: device, systemCall: systemCall,
            userModeOnly: isUserModeFree ? userModeOnly : nil, filtered: filtered,
            privileged: openToAll || capabilities & traceCapability != 0)
        return UserfaultfdRefusal(cause: cause, deviceError: device, systemCallError: systemCall)
    }

    /// Whether this kernel lets anybody have the faults of user mode: since 5.11.
    private static var isUserModeFree: Bool {
        let release = SystemText.read("/proc/sys/kernel/osrelease") ?? ""
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return !numbers.lexicographicallyPrecedes([5, 11])
    }

    /// What the errors and the state of the process say together.
    /// - Parameter userModeOnly: what a kernel answered that asks no privilege for faults of user
    ///   mode; `nil` where it asks for one, or was not asked.
    package static func cause(
        device: Errno, systemCall: Errno, userModeOnly: Errno?, filtered: Bool, privileged: Bool
    ) -> Cause {
        switch systemCall {
        case .noSystemCall: filtered ? .seccomp : .kernelConfiguration
        // The kernel itself would not have refused that: no privilege helps.
        case .notPermitted where userModeOnly == .notPermitted: filtered ? .seccomp : .other
        case .notPermitted where privileged: filtered ? .seccomp : .other
        case .notPermitted:
            device == .accessDenied || device == .notPermitted || !filtered
                ? .sysctlAndCapability : .seccomp
        default: device == .accessDenied ? .devicePermission : .other
        }
    }
}

extension Userfaultfd {
    /// What every destination needs: missing pages of all three backings, and whose fault it is.
    private static let required: [(bit: UInt64, name: String)] = [
        (UInt64(PC_UFFD_FEATURE_MISSING_HUGETLBFS.rawValue), "missing faults on hugetlb (4.11)"),
        (UInt64(PC_UFFD_FEATURE_MISSING_SHMEM.rawValue), "missing faults on shared memory (4.11)"),
        (UInt64(PC_UFFD_FEATURE_THREAD_ID.rawValue), "thread ids (4.14)"),
    ]

    /// Opens a userfaultfd through the device, then by the system call.
    /// - Parameter origin: `.userOnly` is tried last and only when asked for: it needs no privilege
    ///   and serves guests that never hand missing memory to the kernel.
    public static func open(_ origin: FaultOrigin) throws(UserfaultfdRefusal) -> Userfaultfd {
        let device = pc_uffd_open_device()
        if device >= 0 { return try shakeHands(FileDescriptor(owning: device), .userAndKernel) }
        let full = pc_uffd_open_syscall(0)
        if full >= 0 { return try shakeHands(FileDescriptor(owning: full), .userAndKernel) }
        var userModeOnly: Errno?
        if origin == .userOnly {
            let limited = pc_uffd_open_syscall(1)
            if limited >= 0 { return try shakeHands(FileDescriptor(owning: limited), .userOnly) }
            userModeOnly = Errno(rawValue: -limited)
        }
        throw .classify(
            device: Errno(rawValue: -device), systemCall: Errno(rawValue: -full),
            userModeOnly: userModeOnly)
    }

    private static func shakeHands(
        _ descriptor: consuming FileDescriptor, _ origin: FaultOrigin
    ) throws(UserfaultfdRefusal) -> Userfaultfd {
        var supported: UInt64 = 0
        let wanted = required.reduce(0) { $0 | $1.bit }
        let answer = unsafe pc_uffd_handshake(descriptor.raw, wanted, &supported)
        guard answer == 0 else {
            // The kernel refuses the whole handshake and says by EINVAL that a feature is unknown.
            let names = required.map(\.name).joined(separator: ", ")
            let error = Errno(rawValue: -answer)
            throw UserfaultfdRefusal(
                cause: .missingFeatures(names), deviceError: error, systemCallError: error)
        }
        return Userfaultfd(descriptor, origin: origin)
    }
}

/// Lets another thread have the core.
func yieldCore() { _ = sched_yield() }
