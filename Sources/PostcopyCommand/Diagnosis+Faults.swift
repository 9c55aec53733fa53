internal import Postcopy

// Missing pages, and what was written: each way to a userfaultfd, and what the kernel's can do.
extension Diagnosis {
    private static let kernelFaultsLost =
        "pages that the kernel misses, in system calls and KVM: such guests are refused"

    var userfaultfd: DoctorCheck {
        guard let refusal = probes.faults.refusal else {
            let ways = [
                probes.faults.device == nil ? "/dev/userfaultfd" : nil,
                probes.faults.systemCall == nil ? "system call" : nil,
            ].compactMap(\.self)
            return .ok(
                .userfaultfd, "faults of user and kernel, by \(ways.joined(separator: " and "))")
        }
        guard probes.faults.userModeOnly == nil else {
            return .missing(
                .userfaultfd, Self.place(refusal), blocking: true,
                lost: "every destination of a migration, and serve-faults",
                remedy: refusal.reason, command: refusal.cause.command)
        }
        return .degraded(
            .userfaultfd, "faults of user mode only: \(Self.place(refusal))",
            lost: Self.kernelFaultsLost, remedy: refusal.reason, command: refusal.cause.command)
    }

    private static func place(_ refusal: UserfaultfdRefusal) -> String {
        "/dev/userfaultfd: \(refusal.deviceError); system call: \(refusal.systemCallError)"
    }

    var device: DoctorCheck {
        guard let error = probes.faults.device else {
            return .ok(.device, "/dev/userfaultfd gives one")
        }
        let cause = UserfaultfdDeviceRefusal.classify(error, isKnown: probes.faults.isDeviceKnown)
        return .degraded(
            .device, "/dev/userfaultfd: \(error)",
            lost: "the way to a userfaultfd that needs no CAP_SYS_PTRACE", remedy: cause.reason,
            command: cause.command)
    }

    var systemCall: DoctorCheck {
        guard let cause = probes.faults.systemCallCause(probes.confinement),
            let error = probes.faults.systemCall
        else { return .ok(.systemCall, "it gives faults of user and kernel") }
        return .degraded(
            .systemCall, told(error), lost: "the way to a userfaultfd that needs no device node",
            remedy: cause.reason, command: cause.command)
    }

    var userMode: DoctorCheck {
        guard let cause = probes.faults.userModeCause(probes.confinement),
            let error = probes.faults.userModeOnly
        else { return .ok(.userMode, "faults of user mode alone need no privilege") }
        return .degraded(
            .userMode, told(error),
            lost: "the way to a userfaultfd that needs no privilege", remedy: cause.reason,
            command: cause.command)
    }

    private func told(_ error: Errno) -> String {
        probes.faults.isSystemCallFatal
            ? "a filter ends who makes the system call" : "system call: \(error)"
    }

    // MARK: Features

    var missingFaults: DoctorCheck {
        let lost = "every destination of a migration, and serve-faults"
        guard let error = probes.faults.placing else {
            return feature(.missingFaults, .missingPages, blocking: true, lost: lost)
        }
        let cause = UserfaultfdRefusal.Cause(placing: error)
        return .missing(
            .missingFaults, "a missing page was not placed: \(error)", blocking: true, lost: lost,
            remedy: cause.reason, command: cause.command)
    }

    var removedPages: DoctorCheck {
        feature(
            .removedPages, .removedPages, blocking: false,
            lost: "serve-faults for clients that give memory back")
    }

    var lostPages: DoctorCheck {
        feature(
            .lostPages, .lostPages, blocking: false,
            lost: "an end for threads that wait in pages which nobody can bring any more")
    }

    /// Which of those there are that nothing here asks for.
    var unusedFeatures: DoctorCheck {
        guard let offered = probes.faults.features else {
            return .ok(.unusedFeatures, "not known without a userfaultfd; nothing here needs them")
        }
        guard let lacking = UserfaultfdFeatures.unused.lacking(in: offered) else {
            return .ok(
                .unusedFeatures,
                "\(UserfaultfdFeatures.unused.names): there, and nothing here needs them")
        }
        return .ok(.unusedFeatures, "without \(lacking); nothing here needs them")
    }

    private func feature(
        _ name: DoctorCheck.Name, _ wanted: UserfaultfdFeatures, blocking: Bool, lost: String
    ) -> DoctorCheck {
        // Who has no userfaultfd is told so once.
        guard let offered = probes.faults.features else {
            return .ok(name, "not known without a userfaultfd")
        }
        guard let lacking = wanted.lacking(in: offered) else {
            return .ok(name, "\(wanted.names): there, for \(lost)")
        }
        let cause = UserfaultfdRefusal.Cause.missingFeatures(lacking)
        return blocking
            ? .missing(
                name, "without \(lacking)", blocking: true, lost: lost, remedy: cause.reason,
                command: cause.command)
            : .degraded(
                name, "without \(lacking)", lost: lost, remedy: cause.reason,
                command: cause.command)
    }

    var dirtyTracking: DoctorCheck {
        let lost = "a precopy of memory that KVM does not log; migrations go without (--no-precopy)"
        switch probes.tracking {
        case .works:
            return .ok(.dirtyTracking, "a write to a protected page was found by PAGEMAP_SCAN")
        case .refused(let refusal):
            return .degraded(
                .dirtyTracking, "no page could be tracked", lost: lost,
                remedy: refusal.description, command: refusal.command ?? "sudo dmesg")
        case .wrong(let found):
            return .degraded(
                .dirtyTracking, "page 3 was written, and found were \(found)", lost: lost,
                remedy: "the kernel has a defect; boot another one", command: "uname -r")
        }
    }
}
