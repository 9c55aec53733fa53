internal import LinuxKernel
internal import MigrationCore

/// The statuses that a migration went through, for its report.
struct PhaseLog {
    private(set) var changes: [StatusChange] = []
    /// How many statuses were entered, those included that are not kept.
    private(set) var changeCount = 0
    /// What went wrong first; later trouble is as a rule only its echo.
    private(set) var problem: String?

    /// Of the first and of the latest ones: a link may break without end.
    private static let changesKept = 64

    var status: MigrationStatus { changes.last?.status ?? .none }

    mutating func enter(_ status: MigrationStatus) {
        guard status != self.status else { return }
        changeCount += 1
        changes.append(StatusChange(status: status, atNanoseconds: Monotonic.now()))
        if changes.count > 2 * Self.changesKept { changes.remove(at: Self.changesKept) }
    }

    /// What was entered behind the first `count` changes: the latest of them, at least 64.
    func changes(after count: Int) -> [StatusChange] {
        Array(changes.suffix(max(0, changeCount - count)))
    }

    mutating func note(_ problem: String) {
        if self.problem == nil { self.problem = problem }
    }

    /// What went wrong is mended.
    mutating func forgetProblem() { problem = nil }

    /// The peer's own word explains more than the broken link that was noticed before it was read.
    mutating func replace(with problem: String) { self.problem = problem }
}
