import LinuxKernel
import Testing

@testable import PostcopyCommand

/// Every result of a probe has its line, and no other line changes.
@Suite struct DiagnosisTests {
    typealias Host = HostUnderJudgement
    typealias Name = DoctorCheck.Name

    /// A host that lacks something, and what its lines then say.
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let probes: HostProbes
        /// By name: the state, and parts of finding, remedy or command.
        let changed: [Name: (DoctorCheck.State, [String])]

        init(
            _ what: String, _ probes: HostProbes,
            _ changed: [Name: (DoctorCheck.State, [String])]
        ) {
            testDescription = what
            self.probes = probes
            self.changed = changed
        }
    }

    @Test("a host that allows all has one line for each name, and each is ok")
    func everything() {
        let checks = Host.checks(Host.probes())
        #expect(checks.map(\.name) == Name.allCases)
        for check in checks {
            #expect(check.state == .ok, "\(check)")
        }
        #expect(Host.document(Host.probes()).status == .ok)
    }

    @Test("what is taken away shows in its lines alone, with cause and remedy", arguments: cases)
    func taken(_ lacking: Case) throws {
        for check in Host.checks(lacking.probes) {
            guard let (state, words) = lacking.changed[check.name] else {
                #expect(check.state == .ok, "\(check)")
                continue
            }
            #expect(check.state == state, "\(check)")
            let text = [check.finding, check.remedy, check.command].compactMap(\.self).joined()
            for word in words { #expect(text.contains(word), "\(word) in \(check)") }
            Self.expectWhole(check)
        }
    }

    /// Whoever reads a line that is not ok can act on it.
    static func expectWhole(_ check: DoctorCheck) {
        let isOK = check.state == .ok
        #expect((check.lost == nil) == isOK, "\(check)")
        #expect((check.remedy == nil) == isOK, "\(check)")
        #expect((check.command == nil) == isOK, "\(check)")
        // A command is broken at blanks where the terminal is narrow: none may be quoted.
        let quotes: Set<Character> = ["'", "\"", "\\", "\n"]
        #expect(check.command?.contains(where: quotes.contains) != true, "\(check)")
        #expect(check.command?.isEmpty != true, "\(check)")
    }

    private static func limits(_ memory: MemoryProbe) -> HostProbes { Host.probes(memory: memory) }

    private static let emptyPools: [MemoryProbe.Pool] = [
        .init(pageBytes: 2 << 20, total: 2, free: 0, error: .noMemory),
        .init(pageBytes: 1 << 30, total: 0, free: 0, error: .noMemory),
    ]

    static let cases: [Case] =
        memoryCases + kvmCases + socketCases + clockCases + confinementCases + trackingCases

    private static let memoryCases: [Case] = [
        Case(
            "63 open files", limits(Host.memory(descriptorLimit: 63)),
            [.openFiles: (.missing, ["only 63", "ulimit -n 64", "prlimit"])]),
        Case("64 open files", limits(Host.memory(descriptorLimit: 64)), [:]),
        Case("any open files", limits(Host.memory(descriptorLimit: nil)), [:]),
        Case(
            "little memory", limits(Host.memory(availableBytes: 100 << 20)),
            [.availableMemory: (.degraded, ["100 MiB", "--memory"])]),
        Case("unknown memory", limits(Host.memory(availableBytes: nil)), [:]),
        Case(
            "a tight group",
            limits(
                Host.memory(groupLimit: .init(bytes: 64 << 20, usedBytes: 0, file: "/g/memory.max"))
            ),
            [.groupLimit: (.degraded, ["64.0 MiB", "/g/memory.max", "raise"])]),
        Case(
            "a wide group",
            limits(
                Host.memory(groupLimit: .init(bytes: 9 << 30, usedBytes: 0, file: "/g/memory.max"))),
            [:]),
        Case(
            "an address limit", limits(Host.memory(addressLimitBytes: 1 << 30)),
            [.addressSpace: (.degraded, ["RLIMIT_AS", "1.00 GiB", "--as=unlimited"])]),
        Case("a lock limit, and the capability", limits(Host.memory(lockLimitBytes: 0)), [:]),
        Case(
            "strict overcommit", limits(Host.memory(overcommit: 2)),
            [.overcommit: (.degraded, ["sysctl -w vm.overcommit_memory=0"])]),
        Case("any overcommit", limits(Host.memory(overcommit: 1)), [:]),
        Case("unknown overcommit", limits(Host.memory(overcommit: nil)), [:]),
        Case(
            "no pools", limits(Host.memory(pools: [])),
            [.hugePages: (.degraded, ["CONFIG_HUGETLBFS"])]),
        Case(
            "empty pools", limits(Host.memory(pools: emptyPools)),
            [.hugePages: (.degraded, ["0 of 2 free", "echo 258", "hugepages-2048kB"])]),
        Case(
            "pages for one side",
            limits(
                Host.memory(pools: [.init(pageBytes: 2 << 20, total: 255, free: 254, error: nil)])),
            [.hugePages: (.degraded, ["254 of 255 free", "echo 257"])]),
        Case(
            "no transparent huge pages", limits(Host.memory(transparent: nil)),
            [.transparentHugePages: (.degraded, ["CONFIG_TRANSPARENT_HUGEPAGE"])]),
        Case(
            "forbidden transparent huge pages", limits(Host.memory(transparent: "never")),
            [.transparentHugePages: (.degraded, ["echo madvise"])]),
        Case("transparent huge pages", limits(Host.memory(transparent: "always")), [:]),
    ]

    private static func kvm(_ error: Errno, isKnown: Bool, _ words: String...) -> Case {
        Case(
            "KVM: \(error), known \(isKnown)",
            Host.probes(machine: .refused(KVMRefusal(error: error, isKnown: isKnown))),
            [.kvm: (.missing, words), .kvmDirtyLog: (.missing, words)])
    }

    private static let kvmCases: [Case] = [
        kvm(.noEntry, isKnown: false, "modprobe kvm_intel", "nested"),
        kvm(.noEntry, isKnown: true, "no node", "mknod -m 660 /dev/kvm"),
        kvm(.noSuchDevice, isKnown: true, "modprobe"),
        kvm(.accessDenied, isKnown: true, "group kvm", "setfacl -m"),
        kvm(.notPermitted, isKnown: true, "read and write"),
        kvm(.noSuchControl, isKnown: true, "no KVM device", "rm /dev/kvm"),
        kvm(.tooManyFiles, isKnown: true, "ulimit -n", "--nofile"),
        kvm(.noMemory, isKnown: true, "no memory"), kvm(.busy, isKnown: true, "another hypervisor"),
        kvm(.brokenPipe, isKnown: true, "dmesg"),
        Case(
            "no dirty log",
            Host.probes(machine: .withoutLog(version: 12, TrackerRefusal("boot a newer one"))),
            [.kvmDirtyLog: (.missing, ["boot a newer one"])]),
    ]

    private static let socketCases: [Case] = [
        Case(
            "no TCP",
            Host.probes(sockets: SocketProbe(tcp: Host.channelError(.notPermitted), unix: nil)),
            [.tcp: (.degraded, ["127.0.0.1", "ip link set lo up"])]),
        Case(
            "no unix sockets",
            Host.probes(sockets: SocketProbe(tcp: nil, unix: Host.channelError(.noEntry))),
            [.unix: (.degraded, ["TMPDIR"])]),
        Case(
            "no sockets",
            Host.probes(
                sockets: SocketProbe(
                    tcp: Host.channelError(.tooManyFiles), unix: Host.channelError(.tooManyFiles))),
            [.tcp: (.missing, ["ulimit -n"]), .unix: (.missing, ["ulimit -n"])]),
    ]

    private static let clockCases: [Case] =
        ["kvm-clock", "arch_sys_counter"].map { (source: String) in
            Case("the clock \(source)", Host.probes(clock: (1, source)), [:])
        } + [
            Case("an unknown clock", Host.probes(clock: (1, nil)), [:]),
            Case(
                "a slow clock", Host.probes(clock: (1, "hpet")),
                [.clock: (.degraded, ["hpet", "available_clocksource"])]),
            Case(
                "a coarse clock", Host.probes(clock: (4_000_000, "tsc")),
                [.clock: (.degraded, ["4.00 ms"])]),
        ]

    private static let confinementCases: [Case] = [
        Case("a filter that refuses nothing", Host.probes(confinement: Host.filtered), [:]),
        Case(
            "no word of a filter",
            Host.probes(confinement: .init(seccompMode: nil, capabilities: .max)), [:]),
        Case("no capabilities, and no limits", Host.probes(confinement: Host.confined), [:]),
        Case(
            "no capabilities, and a lock limit",
            Host.probes(
                memory: Host.memory(lockError: .noMemory, lockLimitBytes: 0),
                confinement: Host.confined),
            [
                .lockedMemory: (.degraded, ["locking a page", "RLIMIT_MEMLOCK allows 0"]),
                .capabilities: (.degraded, ["--cap-add=IPC_LOCK", "setcap cap_ipc_lock+ep"]),
            ]),
        Case(
            "a user namespace",
            Host.probes(
                confinement: .init(seccompMode: 0, capabilities: .max, isUserNamespace: true)),
            [.userNamespace: (.degraded, ["do not count"])]),
        Case(
            "read-only settings",
            Host.probes(
                confinement: .init(
                    seccompMode: 0, capabilities: .max, isSystemSettingsReadOnly: true)),
            [.systemSettings: (.degraded, ["/proc/sys", "at the host"])]),
        Case(
            "a container",
            Host.probes(
                confinement: .init(
                    seccompMode: 0, capabilities: .max, hasNoNewPrivileges: true,
                    container: "docker", securityModules: "lockdown,selinux")), [:]),
    ]

    private static let trackingCases: [Case] = [
        Case(
            "no tracking",
            Host.probes(tracking: .refused(TrackerRefusal("boot Linux 6.7", command: "uname -r"))),
            [.dirtyTracking: (.degraded, ["boot Linux 6.7"])]),
        Case(
            "wrong tracking", Host.probes(tracking: .wrong(found: [0..<2])),
            [.dirtyTracking: (.degraded, ["0..<2", "defect"])]),
    ]
}
