internal import Postcopy

// What memory a guest can have here.
extension Diagnosis {
    /// Both sides of `postcopy run` with its usual guest of 256 MiB.
    private static let usualBytes: UInt64 = 512 << 20

    var openFiles: DoctorCheck {
        guard let limit = probes.memory.descriptorLimit else {
            return .ok(.openFiles, "no limit")
        }
        guard limit < UInt64(Machine.descriptorsMin) else {
            return .ok(.openFiles, "\(limit) may be open, at most \(Machine.descriptorsMin) are")
        }
        return .missing(
            .openFiles, "only \(limit) may be open", blocking: true, lost: "every migration",
            remedy: Machine.descriptorRemedy(limit: Int(limit)),
            command: FileDescriptor.limitCommand)
    }

    var availableMemory: DoctorCheck {
        guard let bytes = probes.memory.availableBytes else {
            return .ok(.availableMemory, "/proc does not say how much is available")
        }
        let finding = "\(Readable.bytes(bytes)) available"
        guard bytes < Self.usualBytes else { return .ok(.availableMemory, finding) }
        return .degraded(
            .availableMemory, finding,
            lost: "'postcopy run' with both sides of its usual guest, "
                + Readable.bytes(Self.usualBytes),
            remedy: "free some, or give a smaller --memory", command: "postcopy run --memory 16M")
    }

    var groupLimit: DoctorCheck {
        guard let limit = probes.memory.groupLimit else {
            return .ok(.groupLimit, "no control group limits memory")
        }
        let finding =
            "\(Readable.bytes(limit.bytes)) by \(limit.file), "
            + "\(Readable.bytes(limit.usedBytes)) used"
        if let available = probes.memory.availableBytes, limit.bytes >= available {
            return .ok(.groupLimit, finding)
        }
        return .degraded(
            .groupLimit, finding,
            lost: "guests that need more than \(Readable.bytes(limit.bytes)): they are killed",
            remedy: "raise the control group's limit, or restart the container with more memory",
            command: "echo \(Self.largerLimit) | sudo tee \(limit.file)")
    }

    /// What both kinds of control group take for "no limit" is not the same; this they both do.
    private static let largerLimit = "64G"

    var addressSpace: DoctorCheck {
        guard let limit = probes.memory.addressLimitBytes else {
            return .ok(.addressSpace, "no limit")
        }
        return .degraded(
            .addressSpace, "RLIMIT_AS allows \(Readable.bytes(limit))",
            lost: "guests whose memory and this program need more than \(Readable.bytes(limit))",
            remedy: "raise the limit (ulimit -v)",
            command: "sudo prlimit --pid $$ --as=unlimited:unlimited")
    }

    var lockedMemory: DoctorCheck {
        let memory = probes.memory
        guard !probes.confinement.has(.lockMemory), let limit = memory.lockLimitBytes else {
            return .ok(.lockedMemory, "all memory may be locked")
        }
        let finding =
            memory.lockError.map { "locking a page: \($0)" }
            ?? "\(Readable.bytes(limit)) may be locked"
        return .degraded(
            .lockedMemory, finding, lost: "--lock-memory with more than \(Readable.bytes(limit))",
            remedy: HostMemory.lockRemedy(limitBytes: limit),
            command: Self.lockCommand)
    }

    static let lockCommand = "sudo prlimit --pid $$ --memlock=unlimited:unlimited"

    var overcommit: DoctorCheck {
        guard let mode = probes.memory.overcommit else {
            return .ok(.overcommit, "/proc does not say")
        }
        guard mode == 2 else {
            return .ok(.overcommit, "vm.overcommit_memory=\(mode): memory counts once it is used")
        }
        return .degraded(
            .overcommit, "vm.overcommit_memory=2: memory counts once it is mapped",
            lost: "guests larger than what is left of CommitLimit in /proc/meminfo",
            remedy: "set sysctl vm.overcommit_memory=0",
            command: "sudo sysctl -w vm.overcommit_memory=0")
    }

    var hugePages: DoctorCheck {
        let pools = probes.memory.pools
        let lost = "--backing hugetlb"
        guard let first = pools.first(where: { $0.pageBytes == 2 << 20 }) ?? pools.first else {
            return .degraded(
                .hugePages, "this host has none", lost: lost,
                remedy: "boot a kernel built with CONFIG_HUGETLBFS=y",
                command: "grep CONFIG_HUGETLBFS /boot/config-$(uname -r)")
        }
        let finding = pools.map { pool in
            "\(Readable.bytes(pool.pageBytes)): \(pool.free) of \(pool.total) free"
        }.joined(separator: ", ")
        // As `run` counts them, which holds both sides' memory.
        func needed(_ pool: MemoryProbe.Pool) -> UInt64 {
            2 * max(1, Self.usualBytes / 2 / pool.pageBytes)
        }
        let had = pools.filter { $0.error == nil }
        if had.contains(where: { $0.free >= needed($0) }) { return .ok(.hugePages, finding) }
        // Beside those that others hold.
        let count = first.total - min(first.total, first.free) + needed(first)
        let file = "\(HugePages.folder(of: first.pageBytes))/nr_hugepages"
        return .degraded(
            .hugePages, finding,
            lost: had.isEmpty ? lost : "\(lost) with both sides of a usual guest",
            remedy: HugePages.remedy(pageBytes: first.pageBytes),
            command: "echo \(count) | sudo tee \(file)")
    }

    var transparentHugePages: DoctorCheck {
        let lost = "speed: guest memory lies in small pages, and --heal finds nothing to rebuild"
        switch probes.memory.transparent {
        case nil:
            return .degraded(
                .transparentHugePages, "this kernel has none", lost: lost,
                remedy: "boot a kernel built with CONFIG_TRANSPARENT_HUGEPAGE=y",
                command: "grep CONFIG_TRANSPARENT_HUGEPAGE /boot/config-$(uname -r)")
        case "never":
            return .degraded(
                .transparentHugePages, "never", lost: lost, remedy: "allow them where asked for",
                command: "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled")
        case let mode?: return .ok(.transparentHugePages, mode)
        }
    }
}
