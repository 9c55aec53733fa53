internal import Postcopy
internal import Synchronization

/// Something that runs once, on its caller's thread or beside it, and leaves a report.
final class SingleRun<Report: Sendable>: Sendable {
    private enum Stage {
        case idle
        case running
        case ended(Report)
        case freed
    }

    /// What C calls it.
    private let kind: String
    private let stage = Mutex(Stage.idle)
    /// Raised when it does not run any more: it has ended, or was refused at its start.
    private let ended: EventFlag
    private let thread = Mutex<JoinableThread<Void>?>(nil)

    init(_ kind: String) throws(Failure) {
        self.kind = kind
        ended = try coded { try EventFlag() }
    }

    /// Runs `body` here. Blocking. One that throws has not begun.
    func run(_ body: () throws(Failure) -> Report) throws(Failure) -> Report {
        try begin()
        do throws(Failure) {
            let report = try body()
            end(report)
            return report
        } catch {
            revert()
            throw error
        }
    }

    /// Begins it by `body`, and has `follow` wait for its end on a thread of its own.
    func start(
        _ body: () throws(Failure) -> Void, follow: @escaping @Sendable () -> Report
    ) throws(Failure) {
        try begin()
        do throws(Failure) {
            let go = StartSignal(try coded { try EventFlag() })
            var follower = try coded {
                Optional(
                    try JoinableThread(name: "pc-end") { [self] in
                        if go.wait() { end(follow()) }
                    })
            }
            do throws(Failure) { try body() } catch {
                go.give(false)
                follower.take()?.join()
                throw error
            }
            thread.withLock { $0 = follower.take() }
            go.give(true)
        } catch {
            revert()
            throw error
        }
    }

    /// Whether it may be begun.
    var isIdle: Bool {
        guard case .idle = stage.withLock({ $0 }) else { return false }
        return true
    }

    /// Waits for the end; one that is refused at its start was not started. Blocking.
    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) -> Report {
        let deadline = Monotonic.deadline(afterNanoseconds: timeout)
        while true {
            switch stage.withLock({ $0 }) {
            case .idle:
                throw .wrongState("the \(kind) was not started, so its end cannot be waited for")
            case .ended(let report): return report
            case .freed: throw freed
            case .running: break
            }
            let now = Monotonic.now()
            guard ended.wait(timeoutNanoseconds: deadline - min(deadline, now)) else {
                throw .timedOut
            }
        }
    }

    func report() throws(Failure) -> Report {
        switch stage.withLock({ $0 }) {
        case .ended(let report): return report
        case .idle: throw .wrongState("the \(kind) was not started: there is no report yet")
        case .running: throw .wrongState("the \(kind) still runs: there is no report yet")
        case .freed: throw freed
        }
    }

    /// Ends its use for good, unless it runs.
    /// - Parameter check: what else may speak against it.
    func close(_ check: (Report?) throws(Failure) -> Void) throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            switch stage {
            case .idle: try check(nil)
            case .ended(let report): try check(report)
            case .running:
                throw .wrongState("the \(kind) still runs: end it, and wait for that, first")
            case .freed: throw freed
            }
            stage = .freed
        }
        var thread = thread.withLock { $0.take() }
        thread.take()?.join()
    }

    private func begin() throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            switch stage {
            case .idle:
                stage = .running
                ended.clear()
            case .running, .ended:
                throw .wrongState("the \(kind) was started before; one runs once: create another")
            case .freed: throw freed
            }
        }
    }

    /// It may be begun again: whoever waits for its end is told that there will be none.
    private func revert() {
        stage.withLock { stage in
            stage = .idle
            // Not behind the next beginning, which lowers it.
            ended.raise()
        }
    }

    private func end(_ report: Report) {
        stage.withLock { $0 = .ended(report) }
        ended.raise()
    }

    private var freed: Failure { .badHandle("the \(kind) was freed") }
}

/// Tells a thread that was made in advance whether it is needed.
private final class StartSignal: Sendable {
    private let isGiven: EventFlag
    private let isNeeded = Mutex(false)

    init(_ flag: EventFlag) { isGiven = flag }

    func give(_ answer: Bool) {
        isNeeded.withLock { $0 = answer }
        isGiven.raise()
    }

    func wait() -> Bool {
        isGiven.wait()
        return isNeeded.withLock { $0 }
    }
}
