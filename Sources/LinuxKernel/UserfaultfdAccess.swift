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
    /// Which part of the host refused.
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
        /// None that is known.
        case other
    }

    /// Which part of the host refused.
    public let cause: Cause
    /// What `/dev/userfaultfd` answered.
    public let deviceError: Errno
    /// What the system call answered.
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

    package static func missing(
        _ features: UserfaultfdFeatures, _ error: Errno
    ) -> UserfaultfdRefusal {
        UserfaultfdRefusal(
            cause: .missingFeatures(features.names), deviceError: error, systemCallError: error)
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

/// What a user of userfaultfd needs of the kernel, which refuses a handshake that asks for more
/// than it has.
package struct UserfaultfdFeatures: Sendable {
    let bits: UInt64
    /// Each with the Linux version that brought it.
    let names: String

    private init(_ features: [(bit: pc_uffd_feature, name: String)]) {
        bits = features.reduce(0) { $0 | UInt64($1.bit.rawValue) }
        names = features.map(\.name).joined(separator: ", ")
    }

    /// What every destination needs: missing pages of all three backings, and whose fault it is.
    package static let missingPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_MISSING_HUGETLBFS, "missing faults on hugetlb (4.11)"),
        (PC_UFFD_FEATURE_MISSING_SHMEM, "missing faults on shared memory (4.11)"),
        (PC_UFFD_FEATURE_THREAD_ID, "thread ids (4.14)"),
    ])

    /// Missing pages as above, and that pages are given up: whoever does that waits until it was read.
    package static let missingAndRemovedPages = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_MISSING_HUGETLBFS, "missing faults on hugetlb (4.11)"),
        (PC_UFFD_FEATURE_MISSING_SHMEM, "missing faults on shared memory (4.11)"),
        (PC_UFFD_FEATURE_EVENT_REMOVE, "notice of removed pages (4.11)"),
        (PC_UFFD_FEATURE_THREAD_ID, "thread ids (4.14)"),
    ])

    /// Writes to memory of every backing, touched before or not, that are noted and never wait.
    package static let noticedWrites = UserfaultfdFeatures([
        (PC_UFFD_FEATURE_WP_HUGETLBFS_SHMEM, "write protection of shared and huge memory (5.19)"),
        (PC_UFFD_FEATURE_WP_UNPOPULATED, "write protection of untouched memory (6.4)"),
        (PC_UFFD_FEATURE_WP_ASYNC, "asynchronous write protection (6.7, on aarch64 6.10)"),
    ])
}

extension Userfaultfd {
    /// Opens a userfaultfd through the device, then by the system call.
    /// - Parameter origin: `.userOnly` is tried last and only when asked for: it needs no privilege
    ///   and serves guests that never hand missing memory to the kernel.
    public static func open(_ origin: FaultOrigin) throws(UserfaultfdRefusal) -> Userfaultfd {
        try open(origin, .missingPages)
    }

    package static func open(
        _ origin: FaultOrigin, _ features: UserfaultfdFeatures
    ) throws(UserfaultfdRefusal) -> Userfaultfd {
        let device = pc_uffd_open_device()
        if device >= 0 { return try shakeHands(device, .userAndKernel, features) }
        let full = pc_uffd_open_syscall(0)
        if full >= 0 { return try shakeHands(full, .userAndKernel, features) }
        var userModeOnly: Errno?
        if origin == .userOnly {
            let limited = pc_uffd_open_syscall(1)
            if limited >= 0 { return try shakeHands(limited, .userOnly, features) }
            userModeOnly = Errno(rawValue: -limited)
        }
        throw .classify(
            device: Errno(rawValue: -device), systemCall: Errno(rawValue: -full),
            userModeOnly: userModeOnly)
    }

    private static func shakeHands(
        _ raw: Int32, _ origin: FaultOrigin, _ features: UserfaultfdFeatures
    ) throws(UserfaultfdRefusal) -> Userfaultfd {
        let descriptor = FileDescriptor(owning: raw)
        var supported: UInt64 = 0
        let answer = unsafe pc_uffd_handshake(raw, features.bits, &supported)
        guard answer == 0 else {
            // The kernel refuses the whole handshake and says by EINVAL that a feature is unknown.
            throw .missing(features, Errno(rawValue: -answer))
        }
        return Userfaultfd(descriptor, origin: origin)
    }
}

/// Lets another thread have the core.
func yieldCore() { _ = sched_yield() }
