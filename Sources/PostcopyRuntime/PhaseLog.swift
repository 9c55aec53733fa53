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

    /// What was entered behind the first `count` changes, as far as it is kept: at least the latest 64.
    func changes(after count: Int) -> [StatusChange] {
        guard count < changeCount else { return [] }
        // What was dropped lies between the first ones that are kept and the latest ones.
        let dropped = changeCount - changes.count
        return changes.enumerated().filter { place, _ in
            (place < Self.changesKept ? place : place + dropped) >= count
        }.map(\.element)
    }

    mutating func note(_ problem: String) {
        if self.problem == nil { self.problem = problem }
    }

    /// What went wrong is mended.
    mutating func forgetProblem() { problem = nil }

    /// The peer's own word explains more than the broken link that was noticed before it was read.
    mutating func replace(with problem: String) { self.problem = problem }
}
