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
            stage.withLock { $0 = .idle }
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
            stage.withLock { $0 = .idle }
            throw error
        }
    }

    /// Waits for the end. Blocking.
    func wait(timeoutNanoseconds timeout: UInt64) throws(Failure) -> Report {
        if case .idle = stage.withLock({ $0 }) {
            throw .wrongState("the \(kind) was not started, so its end cannot be waited for")
        }
        guard ended.wait(timeoutNanoseconds: timeout) else { throw .timedOut }
        return try report()
    }

    func report() throws(Failure) -> Report {
        switch stage.withLock({ $0 }) {
        case .ended(let report): return report
        case .idle: throw .wrongState("the \(kind) was not started: there is no report yet")
        case .running: throw .wrongState("the \(kind) still runs: there is no report yet")
        case .freed: throw .badHandle("the \(kind) was freed")
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
            case .freed: throw .badHandle("the \(kind) was freed")
            }
            stage = .freed
        }
        var thread = thread.withLock { $0.take() }
        thread.take()?.join()
    }

    private func begin() throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            switch stage {
            case .idle: stage = .running
            case .running, .ended:
                throw .wrongState("the \(kind) was started before; one runs once: create another")
            case .freed: throw .badHandle("the \(kind) was freed")
            }
        }
    }

    private func end(_ report: Report) {
        stage.withLock { $0 = .ended(report) }
        ended.raise()
    }
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
