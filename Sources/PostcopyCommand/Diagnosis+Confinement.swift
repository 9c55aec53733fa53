internal import Postcopy

// Time, io_uring, and what confines this process.
extension Diagnosis {
    /// What an optional system call is refused for.
    private enum Obstacle {
        case setting
        case filter
        case kernel
        case descriptorLimit
        case lockLimit(bytes: UInt64)
        case memory
        case other
    }

    private func obstacle(_ error: Errno, isFatal: Bool, isForbidden: Bool) -> Obstacle {
        if isFatal { return .filter }
        switch error {
        case .notPermitted, .accessDenied:
            return isForbidden ? .setting : probes.confinement.isFiltered ? .filter : .other
        case .noSystemCall: return probes.confinement.isFiltered ? .filter : .kernel
        case .tooManyFiles, .fileTableFull: return .descriptorLimit
        case .noMemory:
            // Without the capability what the kernel keeps for a ring counts as locked.
            guard !probes.confinement.has(.lockMemory), let limit = probes.memory.lockLimitBytes
            else { return .memory }
            return .lockLimit(bytes: limit)
        default: return .other
        }
    }

    /// A refused system call that is wanted and not needed.
    private func refused(
        _ name: DoctorCheck.Name, _ call: String, _ error: Errno, _ obstacle: Obstacle,
        isFatal: Bool, lost: String, setting: String, configuration: String
    ) -> DoctorCheck {
        let finding = isFatal ? "a filter ends who calls \(call)" : "\(call): \(error)"
        let (remedy, command) =
            switch obstacle {
            case .setting: ("set sysctl \(setting)", "sudo sysctl -w \(setting)")
            case .filter:
                (
                    "a seccomp filter forbids the system call; allow \(call) in the container's "
                        + "profile", "docker run --security-opt seccomp=unconfined IMAGE"
                )
            case .kernel:
                (
                    "the kernel lacks it; boot one built with \(configuration)=y",
                    "grep \(configuration) /boot/config-$(uname -r)"
                )
            case .descriptorLimit: (FileDescriptor.limitReason, FileDescriptor.limitCommand)
            case .lockLimit(let bytes):
                (HostMemory.lockRemedy(limitBytes: bytes), Self.lockCommand)
            case .memory: ("the kernel has no memory for it; free some", "free -m")
            case .other:
                ("no known cause; see dmesg and the security modules in use", "sudo dmesg")
            }
        return .degraded(name, finding, lost: lost, remedy: remedy, command: command)
    }

    var ring: DoctorCheck {
        let probe = probes.ring
        guard let error = probe.error else {
            return .ok(.ring, "a ring was made; nothing here needs one today")
        }
        let isForbidden =
            probe.disabled == 2
            || probe.disabled == 1 && !probes.confinement.has(.administrate)
        return refused(
            .ring, "io_uring_setup", error,
            obstacle(error, isFatal: probe.isFatal, isForbidden: isForbidden),
            isFatal: probe.isFatal, lost: "nothing today: no part of postcopy uses io_uring yet",
            setting: "kernel.io_uring_disabled=0", configuration: "CONFIG_IO_URING")
    }

    var faultTimes: DoctorCheck {
        let probe = probes.faultEvents
        guard let error = probe.error else {
            return .ok(.faultTimes, "a page fault of this thread was timed by the kernel")
        }
        let isPrivileged =
            probes.confinement.has(.measure) || probes.confinement.has(.administrate)
        // Above 2 some distributions refuse everything to those without privilege.
        let isForbidden = !isPrivileged && (probe.paranoia ?? 0) > 2
        return refused(
            .faultTimes, "perf_event_open", error,
            obstacle(error, isFatal: probe.isFatal, isForbidden: isForbidden),
            isFatal: probe.isFatal,
            lost: "when a thread began to wait: a wait counts from when its fault is read",
            setting: "kernel.perf_event_paranoid=2", configuration: "CONFIG_PERF_EVENTS")
    }

    /// Clocks that a thread reads without a system call.
    private static let quickClocks: Set = [
        "tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page",
    ]

    var clock: DoctorCheck {
        let system = probes.system
        let resolution = system.clockResolutionNanoseconds
        let source = system.clockSource ?? "an unknown clock"
        let finding = "\(source), in steps of \(Readable.time(resolution))"
        // A page is there within some ten microseconds: coarser steps would tell nothing of it.
        let isCoarse = resolution > 1_000
        guard isCoarse || system.clockSource.map({ !Self.quickClocks.contains($0) }) == true else {
            return .ok(.clock, finding)
        }
        return .degraded(
            .clock, finding, lost: "exact waits: reading this clock is slow, or coarse",
            remedy: "use the processor's own clock, where the kernel offers it",
            command: "cat /sys/devices/system/clocksource/clocksource0/available_clocksource")
    }

    // MARK: Confinement

    var seccomp: DoctorCheck {
        guard probes.confinement.isFiltered else {
            return .ok(
                .seccomp,
                probes.confinement.seccompMode == nil ? "/proc does not say" : "no filter")
        }
        let refused = [
            isFiltered(.systemCall) ? "userfaultfd" : nil,
            isFiltered(.ring) ? "io_uring_setup" : nil,
            isFiltered(.faultTimes) ? "perf_event_open" : nil,
        ].compactMap(\.self)
        guard !refused.isEmpty else {
            return .ok(.seccomp, "a filter that refuses nothing of what is used here")
        }
        let names = refused.joined(separator: ", ")
        return .degraded(
            .seccomp, "a filter refuses \(names)", lost: "what needs \(names)",
            remedy: "allow \(names) in the container's profile",
            command: "docker run --security-opt seccomp=unconfined IMAGE")
    }

    /// Whether a line blames a filter.
    private func isFiltered(_ name: DoctorCheck.Name) -> Bool {
        check(name).remedy?.hasPrefix("a seccomp filter") == true
    }

    var capabilities: DoctorCheck {
        let held = Confinement.Capability.allCases.filter(probes.confinement.has)
        let names = held.map(\.name).joined(separator: ", ")
        let finding = names.isEmpty ? "none that is used here" : names
        // What a capability would allow may be had otherwise.
        var lacking: [Confinement.Capability] = []
        let faults = probes.faults
        if !probes.confinement.has(.trace), faults.device != nil, faults.systemCall != nil {
            lacking.append(.trace)
        }
        if lockedMemory.state != .ok { lacking.append(.lockMemory) }
        guard !lacking.isEmpty else { return .ok(.capabilities, finding) }
        let losses = lacking.map { capability in
            capability == .trace
                ? "faults of the kernel by the system call (CAP_SYS_PTRACE)"
                : "locking any memory (CAP_IPC_LOCK)"
        }
        let flags = lacking.map { "--cap-add=\($0.name.dropFirst(4))" }.joined(separator: " ")
        let sets = lacking.map { $0.name.lowercased() }.joined(separator: ",")
        return .degraded(
            .capabilities, finding, lost: losses.joined(separator: ", "),
            remedy: "run as root of the host, in a container with \(flags), or give the program "
                + lacking.map(\.name).joined(separator: " and "),
            command: "sudo setcap \(sets)+ep \(ShellWord.quoted(OwnProgram.path))")
    }

    var privileges: DoctorCheck {
        .ok(
            .privileges,
            probes.confinement.hasNoNewPrivileges
                ? "none can be gained (no_new_privs): sudo and capabilities of files have no effect"
                : "can be gained by sudo and capabilities of files")
    }

    var userNamespace: DoctorCheck {
        guard probes.confinement.isUserNamespace else {
            return .ok(.userNamespace, "that of the host")
        }
        return .degraded(
            .userNamespace, "one below the host's: capabilities held here do not count there",
            lost: "what CAP_SYS_PTRACE and CAP_IPC_LOCK would allow",
            remedy: "run outside of it, or as the container's user with the rights on the devices",
            command: "cat /proc/self/uid_map")
    }

    var systemSettings: DoctorCheck {
        guard probes.confinement.isSystemSettingsReadOnly else {
            return .ok(.systemSettings, "/proc/sys is not mounted read-only")
        }
        return .degraded(
            .systemSettings, "/proc/sys is mounted read-only",
            lost: "remedies by sysctl in here: they have to be pasted at the host",
            remedy: "paste them at the host, or make it writable",
            command: "sudo mount -o remount,rw /proc/sys")
    }

    var container: DoctorCheck {
        .ok(.container, probes.confinement.container.map { "yes, by \($0)" } ?? "none known")
    }

    var securityModules: DoctorCheck {
        .ok(.securityModules, probes.confinement.securityModules ?? "the kernel does not say")
    }
}
