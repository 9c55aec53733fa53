import LinuxKernel
import Testing

@testable import PostcopyCommand

/// The lines of userfaultfd and of system calls that may be filtered.
@Suite struct DiagnosisOfFaultsTests {
    typealias Host = HostUnderJudgement
    typealias Cause = UserfaultfdRefusal.Cause

    private func check(_ name: DoctorCheck.Name, _ probes: HostProbes) -> DoctorCheck {
        Diagnosis(probes: probes, cpuCount: 1).check(name)
    }

    static let answers: [Errno?] = [
        nil, .noSystemCall, .notPermitted, .accessDenied, .tooManyFiles, .noMemory,
        .invalidArgument,
    ]
    static let deviceAnswers: [Errno?] = [
        nil, .noEntry, .accessDenied, .notPermitted, .noSuchControl, .noSuchDevice, .tooManyFiles,
        .noMemory, .brokenPipe,
    ]
    static let causes: [Cause] = [
        .kernelConfiguration, .seccomp, .sysctlAndCapability, .devicePermission,
        .missingFeatures("a feature"), .descriptorLimit, .memory, .securityModule, .other,
    ]

    @Test(
        "postcopy works by any way, is lessened by user mode alone, and needs one",
        arguments: causes)
    func ways(cause: Cause) {
        for device in Self.deviceAnswers {
            for systemCall in Self.answers {
                for userModeOnly in Self.answers {
                    let probes = Host.probes(
                        faults: Host.faults(
                            device: device, systemCall: systemCall, userModeOnly: userModeOnly,
                            cause: cause))
                    let whole = check(.userfaultfd, probes)
                    let isRefused = device != nil && systemCall != nil
                    #expect((whole.state == .ok) == !isRefused)
                    #expect(whole.blocking == (isRefused && userModeOnly != nil))
                    #expect((whole.state == .missing) == whole.blocking)
                    // As the product's own refusal has it.
                    #expect(whole.remedy == (isRefused ? cause.reason : nil))
                    #expect((check(.device, probes).state == .ok) == (device == nil))
                    #expect((check(.systemCall, probes).state == .ok) == (systemCall == nil))
                    #expect((check(.userMode, probes).state == .ok) == (userModeOnly == nil))
                    for check in Host.checks(probes) { DiagnosisTests.expectWhole(check) }
                }
            }
        }
    }

    @Test("a system call is judged as the product judges it", arguments: answers, [false, true])
    func sameWords(error: Errno?, isFiltered: Bool) throws {
        guard let error else { return }
        let confinement = isFiltered ? Host.filtered : Host.free
        let probes = Host.probes(
            faults: Host.faults(
                device: .noEntry, systemCall: error, userModeOnly: error, cause: .other),
            confinement: confinement)
        let cause = UserfaultfdRefusal.cause(
            device: .noEntry, systemCall: error, userModeOnly: error, filtered: isFiltered,
            privileged: true)
        #expect(check(.systemCall, probes).remedy == cause.reason)
        #expect(check(.userMode, probes).remedy == cause.reason)
    }

    @Test("a call that a filter would end the process for is the filter's")
    func fatal() {
        let faults = UserfaultfdProbe(
            device: nil, systemCall: .noSystemCall, userModeOnly: .noSystemCall,
            isSystemCallFatal: true, refusal: nil, features: Host.everyFeature)
        let probes = Host.probes(
            faults: faults, ring: RingProbe(error: .noSystemCall, isFatal: true, disabled: 0),
            faultEvents: FaultEventProbe(error: .noSystemCall, isFatal: true, paranoia: 2),
            confinement: Host.filtered)
        for name in [DoctorCheck.Name.systemCall, .userMode, .ring, .faultTimes] {
            let line = check(name, probes)
            #expect(line.finding.contains("a filter ends who"), "\(line)")
            #expect(line.remedy?.contains("seccomp") == true, "\(line)")
        }
        let names = "userfaultfd, io_uring_setup, perf_event_open"
        #expect(check(.seccomp, probes).finding.contains(names))
    }

    @Test("each feature that lacks shows in its line alone", arguments: 0..<17)
    func features(bit: Int) {
        let mask = UInt64(1) << UInt64(bit)
        let probes = Host.probes(faults: Host.faults(features: Host.everyFeature & ~mask))
        let wanted: [(DoctorCheck.Name, UserfaultfdFeatures, DoctorCheck.State)] = [
            (.missingFaults, .missingPages, .missing), (.removedPages, .removedPages, .degraded),
            (.lostPages, .lostPages, .degraded),
        ]
        for (name, features, state) in wanted {
            let isLacking = features.bits & mask != 0
            let line = check(name, probes)
            #expect(line.state == (isLacking ? state : .ok))
            #expect(line.remedy?.contains("boot a newer one") == (isLacking ? true : nil))
        }
        let isUnused = UserfaultfdFeatures.unused.bits & mask != 0
        #expect(check(.unusedFeatures, probes).finding.hasPrefix("without") == isUnused)
        #expect(check(.unusedFeatures, probes).state == .ok)
    }

    @Test("a page that is not placed keeps postcopy from working")
    func placing() {
        let words: [(Errno, String)] = [
            (.noMemory, "no memory"), (.notPermitted, "security module"),
            (.accessDenied, "security module"), (.invalidArgument, "dmesg"),
        ]
        for (error, word) in words {
            let faults = UserfaultfdProbe(
                device: nil, systemCall: nil, userModeOnly: nil, refusal: nil,
                features: Host.everyFeature, placing: error)
            let line = check(.missingFaults, Host.probes(faults: faults))
            #expect(line.blocking && line.state == .missing)
            #expect(line.finding.contains("\(error)"))
            #expect(line.remedy?.contains(word) == true, "\(line)")
            DiagnosisTests.expectWhole(line)
        }
    }

    // MARK: Calls that are wanted and not needed

    struct Refused: Sendable {
        let error: Errno
        let isFiltered: Bool
        /// Whether the setting forbids it.
        let isForbidden: Bool
        let says: String
    }

    static let refused: [Refused] = [
        Refused(error: .notPermitted, isFiltered: false, isForbidden: true, says: "sysctl -w"),
        Refused(error: .notPermitted, isFiltered: true, isForbidden: true, says: "sysctl -w"),
        Refused(error: .accessDenied, isFiltered: false, isForbidden: true, says: "sysctl -w"),
        Refused(error: .notPermitted, isFiltered: true, isForbidden: false, says: "seccomp"),
        Refused(error: .accessDenied, isFiltered: true, isForbidden: false, says: "seccomp"),
        Refused(error: .noSystemCall, isFiltered: true, isForbidden: false, says: "seccomp"),
        Refused(error: .noSystemCall, isFiltered: false, isForbidden: false, says: "CONFIG_"),
        Refused(error: .tooManyFiles, isFiltered: false, isForbidden: false, says: "ulimit -n"),
        Refused(error: .noMemory, isFiltered: false, isForbidden: false, says: "no memory"),
        Refused(error: .notPermitted, isFiltered: false, isForbidden: false, says: "dmesg"),
        Refused(error: .brokenPipe, isFiltered: true, isForbidden: true, says: "dmesg"),
    ]

    @Test(
        "io_uring and fault times tell setting, filter, kernel and limits apart", arguments: refused
    )
    func optional(_ refused: Refused) throws {
        let confinement = Confinement(
            seccompMode: refused.isFiltered ? 2 : 0, capabilities: 0)
        let probes = Host.probes(
            ring: RingProbe(error: refused.error, disabled: refused.isForbidden ? 1 : 0),
            faultEvents: FaultEventProbe(
                error: refused.error, paranoia: refused.isForbidden ? 3 : 2),
            confinement: confinement)
        for name in [DoctorCheck.Name.ring, .faultTimes] {
            let line = check(name, probes)
            let text = "\(line.remedy ?? "") \(line.command ?? "")"
            #expect(line.state == .degraded)
            #expect(text.contains(refused.says), "\(refused.says) in \(line)")
            DiagnosisTests.expectWhole(line)
        }
        let isBlamed = refused.says == "seccomp"
        #expect((check(.seccomp, probes).state == .degraded) == isBlamed)
    }

    @Test("a ring that finds no memory meets the limit of locked memory, if there is one")
    func lockLimit() {
        for (limit, confinement, word) in [
            (UInt64(4096), Host.confined, "RLIMIT_MEMLOCK allows 4096"),
            (4096, Host.free, "no memory"), (nil, Host.confined, "no memory"),
        ] {
            let probes = Host.probes(
                ring: RingProbe(error: .noMemory, disabled: 0),
                memory: Host.memory(lockLimitBytes: limit), confinement: confinement)
            #expect(check(.ring, probes).remedy?.contains(word) == true)
        }
    }

    @Test("io_uring that is off for all is off for the privileged too", arguments: [0, 1, 2])
    func disabled(mode: UInt64) {
        let probes = Host.probes(ring: RingProbe(error: .notPermitted, disabled: mode))
        let isSetting = check(.ring, probes).command == "sudo sysctl -w kernel.io_uring_disabled=0"
        #expect(isSetting == (mode == 2))
    }
}
