internal import Postcopy

/// What the probes of a host mean for postcopy: a line for each thing, whatever was found.
struct Diagnosis {
    let probes: HostProbes
    let cpuCount: Int

    /// In the order of `DoctorCheck.Name`.
    var checks: [DoctorCheck] { DoctorCheck.Name.allCases.map(check) }

    func check(_ name: DoctorCheck.Name) -> DoctorCheck {
        switch name {
        case .kernel: kernel
        case .userfaultfd: userfaultfd
        case .device: device
        case .systemCall: systemCall
        case .userMode: userMode
        case .missingFaults: missingFaults
        case .removedPages: removedPages
        case .lostPages: lostPages
        case .unusedFeatures: unusedFeatures
        case .dirtyTracking: dirtyTracking
        case .kvm: kvm
        case .kvmDirtyLog: kvmDirtyLog
        case .tcp: socket(.tcp, probes.sockets.tcp)
        case .unix: socket(.unix, probes.sockets.unix)
        case .openFiles: openFiles
        case .availableMemory: availableMemory
        case .groupLimit: groupLimit
        case .addressSpace: addressSpace
        case .lockedMemory: lockedMemory
        case .overcommit: overcommit
        case .hugePages: hugePages
        case .transparentHugePages: transparentHugePages
        case .faultTimes: faultTimes
        case .clock: clock
        case .ring: ring
        case .seccomp: seccomp
        case .capabilities: capabilities
        case .privileges: privileges
        case .userNamespace: userNamespace
        case .systemSettings: systemSettings
        case .container: container
        case .securityModules: securityModules
        }
    }

    private var kernel: DoctorCheck {
        let system = probes.system
        let processors = Readable.count(UInt64(max(0, cpuCount)), "processor", "processors")
        return .ok(.kernel, "Linux \(system.kernel), \(system.architecture), \(processors)")
    }

    private var kvm: DoctorCheck {
        switch probes.machine {
        case .works(let version), .withoutLog(let version, _):
            .ok(.kvm, "a virtual machine was made; interface version \(version)")
        case .refused(let refusal):
            .missing(
                .kvm, "/dev/kvm: \(refusal.error)", blocking: false,
                lost: "guests of KVM, and the dirty log that a precopy of them needs",
                remedy: refusal.reason, command: refusal.command)
        }
    }

    private var kvmDirtyLog: DoctorCheck {
        switch probes.machine {
        case .works: .ok(.kvmDirtyLog, "a slot's log was read and cleared, with manual protection")
        case .withoutLog(_, let refusal):
            .missing(
                .kvmDirtyLog, "a slot's log was not had", blocking: false,
                lost: "a precopy of guests of KVM", remedy: refusal.description,
                command: refusal.command ?? "uname -r")
        case .refused(let refusal):
            .missing(
                .kvmDirtyLog, "without KVM there is none", blocking: false,
                lost: "a precopy of guests of KVM", remedy: refusal.reason,
                command: refusal.command)
        }
    }

    /// Either kind is enough for a migration.
    private func socket(_ name: DoctorCheck.Name, _ error: ChannelError?) -> DoctorCheck {
        guard let error else { return .ok(name, "one was listened on, and connected to") }
        let isAlone = probes.sockets.tcp != nil && probes.sockets.unix != nil
        let isTCP = name == .tcp
        let remedy =
            error.cause == .kernel(.tooManyFiles)
            ? FileDescriptor.limitReason
            : isTCP
                ? "bring the loopback up, and allow sockets in the container's profile"
                : "set TMPDIR to a folder that you may write to, with a path under 80 characters"
        let command =
            error.cause == .kernel(.tooManyFiles)
            ? FileDescriptor.limitCommand
            : isTCP ? "sudo ip link set lo up" : "export TMPDIR=$(mktemp -d -p /tmp)"
        let lost = isTCP ? "addresses tcp:HOST:PORT" : "addresses unix:PATH, and the control socket"
        return isAlone
            ? .missing(
                name, error.description, blocking: true, lost: lost, remedy: remedy,
                command: command)
            : .degraded(name, error.description, lost: lost, remedy: remedy, command: command)
    }
}
