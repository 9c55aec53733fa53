internal import Glibc

/// What confines this process: filters, capabilities, namespaces.
package struct Confinement: Equatable, Sendable {
    /// Capabilities that something here asks for; numbers of capability.h of the kernel.
    package enum Capability: UInt64, CaseIterable, Sendable {
        case lockMemory = 14
        case trace = 19
        case administrate = 21
        case raiseLimits = 24
        case measure = 38

        package var name: String {
            switch self {
            case .lockMemory: "CAP_IPC_LOCK"
            case .trace: "CAP_SYS_PTRACE"
            case .administrate: "CAP_SYS_ADMIN"
            case .raiseLimits: "CAP_SYS_RESOURCE"
            case .measure: "CAP_PERFMON"
            }
        }
    }

    /// `nil` when /proc does not say.
    package let seccompMode: UInt64?
    package let capabilities: UInt64
    package let hasNoNewPrivileges: Bool
    package let isUserNamespace: Bool
    package let isSystemSettingsReadOnly: Bool
    /// What says that this is a container; `nil` when nothing does.
    package let container: String?
    /// As the kernel lists them; `nil` when it does not.
    package let securityModules: String?

    package init(
        seccompMode: UInt64?, capabilities: UInt64, hasNoNewPrivileges: Bool = false,
        isUserNamespace: Bool = false, isSystemSettingsReadOnly: Bool = false,
        container: String? = nil, securityModules: String? = nil
    ) {
        self.seccompMode = seccompMode
        self.capabilities = capabilities
        self.hasNoNewPrivileges = hasNoNewPrivileges
        self.isUserNamespace = isUserNamespace
        self.isSystemSettingsReadOnly = isSystemSettingsReadOnly
        self.container = container
        self.securityModules = securityModules
    }

    /// Whether a seccomp filter is installed.
    package var isFiltered: Bool { seccompMode == 2 }

    /// Whether the process has a capability where the host asks for it: root of a user namespace has
    /// every one, and none counts outside.
    package func has(_ capability: Capability) -> Bool {
        !isUserNamespace && capabilities & 1 << capability.rawValue != 0
    }

    package static func probe() -> Confinement {
        let status = "/proc/self/status"
        let modules = SystemText.read("/sys/kernel/security/lsm")
        return Confinement(
            seccompMode: SystemText.field("Seccomp", of: status),
            capabilities: SystemText.field("CapEff", of: status, radix: 16) ?? 0,
            hasNoNewPrivileges: SystemText.field("NoNewPrivs", of: status) == 1,
            isUserNamespace: isUserNamespace(map: SystemText.read("/proc/self/uid_map")),
            isSystemSettingsReadOnly: isReadOnly("/proc/sys"), container: container(),
            securityModules: modules.map { String($0.prefix { !$0.isNewline }) })
    }

    /// The first user namespace maps every id to itself (user_namespaces(7)).
    package static func isUserNamespace(map: String?) -> Bool {
        guard let map else { return false }
        return map.split(whereSeparator: \.isWhitespace).prefix(3) != ["0", "0", "4294967295"]
    }

    private static func isReadOnly(_ path: String) -> Bool {
        var status = statvfs()
        guard unsafe statvfs(path, &status) == 0 else { return false }
        return status.f_flag & UInt(ST_RDONLY) != 0
    }

    /// What container engines and systemd leave.
    private static func container() -> String? {
        let marks = ["/run/.containerenv", "/.dockerenv"]
        for mark in marks where unsafe access(mark, F_OK) == 0 { return mark }
        if let name = SystemText.read("/run/systemd/container") {
            return String(name.prefix { !$0.isNewline })
        }
        let group = SystemText.read("/proc/self/cgroup") ?? ""
        return ["docker", "kubepods", "libpod", "lxc", "containerd"].first(where: group.contains)
    }
}
