internal import Postcopy
internal import Synchronization

/// The destination of a `run` as its source sees it, and who cuts the two off from each other.
final class RunPeer: DestinationPeer, Sendable {
    private struct State {
        var linesTold = 0
        var plan: BreakPlan?
    }

    private let process: DestinationProcess
    let breaker: LinkBreaker?
    private let state: Mutex<State>

    init(_ process: DestinationProcess, breaker: LinkBreaker?, plan: BreakPlan?) {
        self.process = process
        self.breaker = breaker
        state = Mutex(State(plan: plan))
    }

    var earlyEnd: String? { process.earlyEnd }

    var progress: DestinationProgress? { process.progress }

    var newLines: [String] {
        state.withLock { state in
            let (lines, count) = process.lines(after: state.linesTold)
            state.linesTold = count
            return lines
        }
    }

    /// Cuts the link when it is time. What is sent is there but for what lies in buffers, which are
    /// bounded to less than a MiB.
    func look(_ progress: SourceProgress) {
        guard let breaker, progress.status == .postcopyActive, breaker.isWhole else { return }
        let total = max(1, progress.totalPages)
        let share = Double(total - min(total, progress.remainingPages)) / Double(total)
        let lasting = state.withLock { state in
            state.plan?.isDue(at: share) == true ? state.plan?.lastingNanoseconds : nil
        }
        if let lasting { breaker.cut(lastingNanoseconds: lasting) }
    }
}
