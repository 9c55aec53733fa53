// What each cause means, and what helps: the same words wherever a userfaultfd was refused.
extension UserfaultfdRefusal {
    package var reason: String { cause.reason }
}

extension UserfaultfdRefusal.Cause {
    /// Why a userfaultfd that was had does not place a page.
    package init(placing error: Errno) {
        switch error {
        case .noMemory: self = .memory
        case .accessDenied, .notPermitted: self = .securityModule
        default: self = .other
        }
    }

    /// The cause and its remedy.
    package var reason: String {
        switch self {
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
        case .descriptorLimit:
            FileDescriptor.limitReason
        case .memory:
            "the kernel has no memory for it; free some, or raise the control group's limit"
        case .securityModule:
            "a security module forbids it; allow this program userfaultfd in its policy, and see "
                + "the audit log"
        case .other:
            "no known cause; see dmesg and the security modules in use"
        }
    }

    /// A command to paste: it takes the cause away, or shows more of it.
    package var command: String {
        switch self {
        case .kernelConfiguration: "grep CONFIG_USERFAULTFD /boot/config-$(uname -r)"
        case .seccomp: "docker run --device=/dev/userfaultfd IMAGE"
        case .sysctlAndCapability: "sudo sysctl -w vm.unprivileged_userfaultfd=1"
        case .devicePermission: UserfaultfdDeviceRefusal.grantCommand
        case .missingFeatures: "uname -r"
        case .descriptorLimit: FileDescriptor.limitCommand
        case .memory: "free -m"
        case .securityModule: "sudo ausearch -m avc -ts recent"
        case .other: "sudo dmesg"
        }
    }
}

/// Why `/dev/userfaultfd` gives none, which matters where the system call does not either.
package enum UserfaultfdDeviceRefusal: Hashable, Sendable, CaseIterable {
    /// The kernel has no such device: before Linux 6.1, or built without userfaultfd.
    case noDriver
    /// The kernel has it, and no node names it here.
    case noNode
    case noRights
    /// The node's own rights would allow it: a control group for devices, or a security module, does not.
    case forbidden
    /// Something else stands in its place.
    case otherDevice
    case descriptorLimit
    case memory
    case other

    /// - Parameter isKnown: as `DeviceNode.isKnown` says.
    package static func classify(_ error: Errno, isKnown: Bool) -> Self {
        switch error {
        case .noEntry: isKnown ? .noNode : .noDriver
        case .noSuchAddress, .noSuchDevice: isKnown ? .otherDevice : .noDriver
        case .noSuchControl, .invalidArgument: .otherDevice
        case .accessDenied: .noRights
        case .notPermitted: .forbidden
        case .tooManyFiles, .fileTableFull: .descriptorLimit
        case .noMemory: .memory
        default: .other
        }
    }

    static let grantCommand = DeviceNode.grantCommand("userfaultfd")

    package var reason: String {
        switch self {
        case .noDriver: "the kernel has no such device; boot Linux 6.1 or newer"
        case .noNode:
            "the kernel has the device and no node names it here; make one, or give the "
                + "container /dev/userfaultfd"
        case .noRights: UserfaultfdRefusal.Cause.devicePermission.reason
        case .forbidden:
            "the device's control group or a security module forbids it; give the container "
                + "/dev/userfaultfd"
        case .otherDevice: "it is no userfaultfd device; remove it and make the right one"
        case .descriptorLimit: UserfaultfdRefusal.Cause.descriptorLimit.reason
        case .memory: UserfaultfdRefusal.Cause.memory.reason
        case .other: UserfaultfdRefusal.Cause.other.reason
        }
    }

    package var command: String {
        let make = DeviceNode.makeCommand("userfaultfd", mode: "600")
        return switch self {
        case .noDriver: "uname -r"
        case .noNode: make
        case .noRights: Self.grantCommand
        case .forbidden: "docker run --device=/dev/userfaultfd IMAGE"
        case .otherDevice: "sudo rm /dev/userfaultfd && " + make
        case .descriptorLimit: FileDescriptor.limitCommand
        case .memory: "free -m"
        case .other: "sudo dmesg"
        }
    }
}

/// Devices that the kernel numbers itself.
enum DeviceNode {
    /// Whether the kernel has the device, wherever a node names it.
    static func isKnown(_ name: String) -> Bool {
        (SystemText.read("/proc/misc") ?? "").contains(" \(name)\n")
    }

    /// Works at once, whatever group the node has.
    static func grantCommand(_ name: String) -> String {
        "sudo setfacl -m u:$(id -u):rw /dev/\(name)"
    }

    static func makeCommand(_ name: String, mode: String) -> String {
        "sudo mknod -m \(mode) /dev/\(name) c 10 $(grep -w \(name) /proc/misc | tr -dc 0-9)"
    }
}
