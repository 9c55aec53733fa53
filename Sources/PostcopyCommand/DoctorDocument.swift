internal import Postcopy

/// One thing that this host allows, or does not.
struct DoctorCheck: Codable, Equatable {
    enum State: String, Codable, CaseIterable {
        case ok
        /// Something is lost, and the rest works.
        case degraded
        case missing
    }

    /// What is looked at, in the order in which it is told.
    enum Name: String, Codable, CaseIterable {
        case kernel
        case userfaultfd
        case device = "userfaultfd-device"
        case systemCall = "userfaultfd-call"
        case userMode = "userfaultfd-user"
        case missingFaults = "missing-faults"
        case removedPages = "removed-pages"
        case lostPages = "lost-pages"
        case unusedFeatures = "more-features"
        case dirtyTracking = "dirty-tracking"
        case kvm
        case kvmDirtyLog = "kvm-dirty-log"
        case tcp = "tcp-sockets"
        case unix = "unix-sockets"
        case openFiles = "open-files"
        case availableMemory = "memory"
        case groupLimit = "memory-limit"
        case addressSpace = "address-space"
        case lockedMemory = "locked-memory"
        case overcommit
        case hugePages = "huge-pages"
        case transparentHugePages = "transparent-huge"
        case faultTimes = "fault-times"
        case clock
        case ring = "io-uring"
        case seccomp
        case capabilities
        case privileges = "new-privileges"
        case userNamespace = "user-namespace"
        case systemSettings = "system-settings"
        case container
        case securityModules = "security-modules"
    }

    var name: Name
    var state: State
    /// Whether postcopy cannot work here because of this line.
    var blocking: Bool
    var finding: String
    /// What does not work.
    var lost: String?
    var remedy: String?
    /// To be pasted into a shell.
    var command: String?

    static func ok(_ name: Name, _ finding: String) -> DoctorCheck {
        DoctorCheck(name: name, state: .ok, blocking: false, finding: finding)
    }

    static func degraded(
        _ name: Name, _ finding: String, lost: String, remedy: String, command: String
    ) -> DoctorCheck {
        DoctorCheck(
            name: name, state: .degraded, blocking: false, finding: finding, lost: lost,
            remedy: remedy, command: command)
    }

    static func missing(
        _ name: Name, _ finding: String, blocking: Bool, lost: String, remedy: String,
        command: String
    ) -> DoctorCheck {
        DoctorCheck(
            name: name, state: .missing, blocking: blocking, finding: finding, lost: lost,
            remedy: remedy, command: command)
    }
}

/// What `postcopy doctor` found, as JSON.
struct DoctorDocument: JSONReport, Equatable {
    /// Grows when a key changes its meaning or goes.
    static let currentSchema = 1

    var schema = currentSchema
    var command = DoctorCommand.name
    var status: DoctorCheck.State
    var checks: [DoctorCheck]
    var machine: MachineFigures

    init(checks: [DoctorCheck], machine: MachineFigures) {
        self.checks = checks
        self.machine = machine
        status =
            checks.contains(where: \.blocking)
            ? .missing : checks.contains { $0.state != .ok } ? .degraded : .ok
    }

    /// What postcopy cannot do without, and has not got.
    var lacking: [DoctorCheck] { checks.filter(\.blocking) }

    /// What else is not as it could be.
    var lessened: [DoctorCheck] {
        checks.filter { $0.state != .ok && !$0.blocking }
    }

    /// Of the command.
    func exitStatus(isStrict: Bool) -> Int32 {
        switch status {
        case .missing: Self.missingStatus
        case .degraded: isStrict ? Self.degradedStatus : 0
        case .ok: 0
        }
    }

    /// Apart from 1, which says that the command could not do its work.
    static let missingStatus: Int32 = 2
    static let degradedStatus: Int32 = 3

    /// All of it in one sentence.
    var summary: String {
        func names(_ checks: [DoctorCheck]) -> String {
            checks.map(\.name.rawValue).joined(separator: ", ")
        }
        let rest = lessened.isEmpty ? "" : "less than it could be: \(names(lessened))"
        switch status {
        case .missing:
            let more = rest.isEmpty ? "" : "; \(rest)"
            return "this host lacks what postcopy needs: \(names(lacking))\(more)"
        case .degraded: return "this host allows what postcopy needs; \(rest)"
        case .ok: return "this host allows all that postcopy uses"
        }
    }
}
