@testable import LinuxKernel
@testable import PostcopyCommand

/// A host that allows everything, and each part of it taken away.
enum HostUnderJudgement {
    static let everyFeature =
        UserfaultfdFeatures.missingPages.bits | UserfaultfdFeatures.removedPages.bits
        | UserfaultfdFeatures.lostPages.bits | UserfaultfdFeatures.noticedWrites.bits
        | UserfaultfdFeatures.unused.bits

    static let free = Confinement(seccompMode: 0, capabilities: .max)

    static let confined = Confinement(seccompMode: 0, capabilities: 0)

    static let filtered = Confinement(seccompMode: 2, capabilities: .max)

    static func faults(features: UInt64? = everyFeature) -> UserfaultfdProbe {
        UserfaultfdProbe(
            device: nil, systemCall: nil, userModeOnly: nil, refusal: nil, features: features)
    }

    /// - Parameters: as the kernel answers, `nil` for a userfaultfd.
    static func faults(
        device: Errno?, systemCall: Errno?, userModeOnly: Errno?, cause: UserfaultfdRefusal.Cause
    ) -> UserfaultfdProbe {
        let refusal = device.flatMap { device in
            systemCall.map { systemCall in
                UserfaultfdRefusal(
                    cause: cause, deviceError: device, systemCallError: systemCall)
            }
        }
        let isRefused = device != nil && systemCall != nil && userModeOnly != nil
        return UserfaultfdProbe(
            device: device, systemCall: systemCall, userModeOnly: userModeOnly, refusal: refusal,
            features: isRefused ? nil : everyFeature)
    }

    static func memory(
        pools: [MemoryProbe.Pool] = [.init(pageBytes: 2 << 20, total: 256, free: 256, error: nil)],
        transparent: String? = "madvise", lockError: Errno? = nil, lockLimitBytes: UInt64? = nil,
        addressLimitBytes: UInt64? = nil, descriptorLimit: UInt64? = 1024,
        groupLimit: MemoryProbe.GroupLimit? = nil, overcommit: UInt64? = 0,
        availableBytes: UInt64? = 8 << 30
    ) -> MemoryProbe {
        MemoryProbe(
            pools: pools, transparent: transparent, lockError: lockError,
            lockLimitBytes: lockLimitBytes, addressLimitBytes: addressLimitBytes,
            descriptorLimit: descriptorLimit, groupLimit: groupLimit, overcommit: overcommit,
            availableBytes: availableBytes)
    }

    static func probes(
        clock: (UInt64, String?) = (1, "tsc"), faults: UserfaultfdProbe = faults(),
        tracking: TrackingProbe = .works, ring: RingProbe = RingProbe(error: nil, disabled: 0),
        memory: MemoryProbe = memory(), machine: KVMProbe = .works(version: 12),
        faultEvents: FaultEventProbe = FaultEventProbe(error: nil, paranoia: 2),
        sockets: SocketProbe = SocketProbe(tcp: nil, unix: nil), confinement: Confinement = free
    ) -> HostProbes {
        HostProbes(
            system: SystemProbe(
                kernel: "6.18.0", architecture: "x86_64", clockResolutionNanoseconds: clock.0,
                clockSource: clock.1),
            faults: faults, tracking: tracking, ring: ring, memory: memory, machine: machine,
            faultEvents: faultEvents, sockets: sockets, confinement: confinement)
    }

    static func checks(_ probes: HostProbes) -> [DoctorCheck] {
        Diagnosis(probes: probes, cpuCount: 2).checks
    }

    static func document(_ probes: HostProbes) -> DoctorDocument {
        DoctorDocument(
            checks: checks(probes), machine: MachineFigures(cpus: 2, kernel: "6", loadAverage: []))
    }

    static func channelError(_ error: Errno) -> ChannelError {
        ChannelError(
            operation: .listen, address: .tcp(host: "127.0.0.1", port: 0), cause: .kernel(error))
    }
}
