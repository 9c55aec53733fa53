import LinuxKernel
import Testing

@Suite("UserfaultfdRefusal")
struct UserfaultfdAccessTests {
    typealias Cause = UserfaultfdRefusal.Cause

    static let deviceErrors: [Errno] = [
        .noEntry, .accessDenied, .notPermitted, .noMemory, .invalidArgument,
    ]
    static let systemCallErrors: [Errno] = [.noSystemCall, .notPermitted, .noMemory, .accessDenied]

    /// `nil` where the kernel asks a privilege for user mode too, or was not asked.
    static let userModeErrors: [Errno?] = [nil, .notPermitted, .noMemory, .invalidArgument]

    private func cause(
        _ device: Errno, _ systemCall: Errno, userModeOnly: Errno? = nil, filtered: Bool,
        privileged: Bool
    ) -> Cause {
        UserfaultfdRefusal.cause(
            device: device, systemCall: systemCall, userModeOnly: userModeOnly,
            filtered: filtered, privileged: privileged)
    }

    @Test("user mode needs no privilege: a refusal is a filter's", arguments: deviceErrors)
    func userModeRefused(device: Errno) {
        for privileged in [false, true] {
            for filtered in [false, true] {
                let answer = cause(
                    device, .notPermitted, userModeOnly: .notPermitted, filtered: filtered,
                    privileged: privileged)
                #expect(answer == (filtered ? .seccomp : .other))
            }
        }
    }

    @Test("any other answer for user mode changes nothing", arguments: deviceErrors)
    func userModeOther(device: Errno) {
        for systemCall in Self.systemCallErrors {
            for userModeOnly in Self.userModeErrors
            where systemCall != .notPermitted || userModeOnly != .notPermitted {
                for state in [(false, false), (false, true), (true, false), (true, true)] {
                    let answer = cause(
                        device, systemCall, userModeOnly: userModeOnly, filtered: state.0,
                        privileged: state.1)
                    let plain = cause(
                        device, systemCall, filtered: state.0, privileged: state.1)
                    #expect(answer == plain)
                }
            }
        }
    }

    @Test("no system call: a filter hides it or the kernel lacks it", arguments: deviceErrors)
    func noSystemCall(device: Errno) {
        for privileged in [false, true] {
            let filtered = cause(device, .noSystemCall, filtered: true, privileged: privileged)
            #expect(filtered == .seccomp)
            let open = cause(device, .noSystemCall, filtered: false, privileged: privileged)
            #expect(open == .kernelConfiguration)
        }
    }

    @Test("not permitted despite the privilege: only a filter does that", arguments: deviceErrors)
    func privileged(device: Errno) {
        #expect(cause(device, .notPermitted, filtered: true, privileged: true) == .seccomp)
        #expect(cause(device, .notPermitted, filtered: false, privileged: true) == .other)
    }

    @Test("not permitted without privilege: the privilege is missing", arguments: deviceErrors)
    func unprivileged(device: Errno) {
        let open = cause(device, .notPermitted, filtered: false, privileged: false)
        #expect(open == .sysctlAndCapability)
        // In a container without the device, the filter answers before the sysctl is asked.
        let filtered = cause(device, .notPermitted, filtered: true, privileged: false)
        let isShut = device == .accessDenied || device == .notPermitted
        #expect(filtered == (isShut ? .sysctlAndCapability : .seccomp))
    }

    @Test("who has the faults of user mode meets no filter", arguments: deviceErrors)
    func userModeGranted(device: Errno) {
        for filtered in [false, true] {
            let answer = UserfaultfdRefusal.cause(
                device: device, systemCall: .notPermitted, userModeOnly: nil,
                isUserModeGranted: true, filtered: filtered, privileged: false)
            #expect(answer == .sysctlAndCapability)
        }
    }

    @Test("what the system call itself names is the cause", arguments: deviceErrors)
    func named(device: Errno) {
        let causes: [(Errno, Cause)] = [
            (.tooManyFiles, .descriptorLimit), (.fileTableFull, .descriptorLimit),
            (.noMemory, .memory),
        ]
        for (error, expected) in causes {
            for state in [(false, false), (false, true), (true, false), (true, true)] {
                #expect(cause(device, error, filtered: state.0, privileged: state.1) == expected)
            }
        }
        for privileged in [false, true] {
            let open = cause(device, .accessDenied, filtered: false, privileged: privileged)
            #expect(open == .securityModule)
            let filtered = cause(device, .accessDenied, filtered: true, privileged: privileged)
            #expect(filtered == .seccomp)
        }
    }

    @Test("any other answer of the system call leaves the device", arguments: deviceErrors)
    func other(device: Errno) {
        for state in [(false, false), (false, true), (true, false), (true, true)] {
            let answer = cause(device, .invalidArgument, filtered: state.0, privileged: state.1)
            #expect(answer == (device == .accessDenied ? .devicePermission : .other))
        }
    }

    @Test("a device that is not there is told from one that no node names")
    func deviceRefusals() {
        typealias Refusal = UserfaultfdDeviceRefusal
        let expected: [(Errno, isKnown: Bool, Refusal)] = [
            (.noEntry, true, .noNode), (.noEntry, false, .noDriver),
            (.noSuchAddress, true, .otherDevice), (.noSuchDevice, false, .noDriver),
            (.noSuchControl, true, .otherDevice), (.accessDenied, true, .noRights),
            (.notPermitted, true, .forbidden), (.tooManyFiles, true, .descriptorLimit),
            (.noMemory, true, .memory), (.brokenPipe, true, .other),
        ]
        for (error, isKnown, refusal) in expected {
            #expect(Refusal.classify(error, isKnown: isKnown) == refusal)
        }
        #expect(Set(expected.map { $0.2 }) == Set(Refusal.allCases))
        #expect(Set(Refusal.allCases.map(\.reason)).count == Refusal.allCases.count)
    }
}
