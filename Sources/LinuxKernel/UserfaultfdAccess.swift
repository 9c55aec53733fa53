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
        /// The process may open no more descriptors.
        case descriptorLimit
        /// The kernel has no memory left for it.
        case memory
        /// A security module, as SELinux is one, refuses the system call.
        case securityModule
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

    package static func missing(
        _ features: UserfaultfdFeatures, _ error: Errno
    ) -> UserfaultfdRefusal {
        UserfaultfdRefusal(
            cause: .missingFeatures(features.names), deviceError: error, systemCallError: error)
    }

    /// Asks the process for its state and says what that and the two errors mean.
    /// - Parameter userModeOnly: the refusal when only faults of user mode were asked for; `nil` when
    ///   those were granted.
    static func classify(
        device: Errno, systemCall: Errno, userModeOnly: Errno?
    ) -> UserfaultfdRefusal {
        let confinement = Confinement.probe()
        let openToAll = SystemText.number("/proc/sys/vm/unprivileged_userfaultfd") == 1
        let cause = cause(
            device: device, systemCall: systemCall,
            userModeOnly: isUserModeFree ? userModeOnly : nil,
            isUserModeGranted: userModeOnly == nil, filtered: confinement.isFiltered,
            privileged: openToAll || confinement.has(.trace))
        return UserfaultfdRefusal(cause: cause, deviceError: device, systemCallError: systemCall)
    }

    /// Whether this kernel lets anybody have the faults of user mode: since 5.11.
    private static var isUserModeFree: Bool {
        let release = SystemText.read("/proc/sys/kernel/osrelease") ?? ""
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return !numbers.lexicographicallyPrecedes([5, 11])
    }

    /// What the errors and the state of the process say together.
    /// - Parameters:
    ///   - userModeOnly: what a kernel answered that asks no privilege for faults of user mode; `nil`
    ///     where it asks for one, or did not refuse.
    ///   - isUserModeGranted: no filter hides the system call then.
    package static func cause(
        device: Errno, systemCall: Errno, userModeOnly: Errno?, isUserModeGranted: Bool = false,
        filtered: Bool, privileged: Bool
    ) -> Cause {
        switch systemCall {
        case .notPermitted where isUserModeGranted && !privileged: .sysctlAndCapability
        case .noSystemCall: filtered ? .seccomp : .kernelConfiguration
        // The kernel itself would not have refused that: no privilege helps.
        case .notPermitted where userModeOnly == .notPermitted: filtered ? .seccomp : .other
        case .notPermitted where privileged: filtered ? .seccomp : .other
        case .notPermitted:
            device == .accessDenied || device == .notPermitted || !filtered
                ? .sysctlAndCapability : .seccomp
        case .tooManyFiles, .fileTableFull: .descriptorLimit
        case .noMemory: .memory
        case .accessDenied: filtered ? .seccomp : .securityModule
        default: device == .accessDenied ? .devicePermission : .other
        }
    }
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
        let limited = pc_uffd_open_syscall(1)
        if limited >= 0, origin == .userOnly {
            return try shakeHands(limited, .userOnly, features)
        }
        // Asked for in any case: the answer tells a filter from a missing privilege.
        if limited >= 0 { _ = FileDescriptor(owning: limited) }
        throw .classify(
            device: Errno(rawValue: -device), systemCall: Errno(rawValue: -full),
            userModeOnly: limited < 0 ? Errno(rawValue: -limited) : nil)
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
