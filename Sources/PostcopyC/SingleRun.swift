internal import Postcopy
internal import Synchronization

/// Something that runs once, on its caller's thread or on one of its own, and leaves a report.
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

    /// Runs `body` here. Blocking.
    func run(_ body: () -> Report) throws(Failure) {
        try begin()
        end(body())
    }

    /// Runs `body` on a thread named `name`.
    func start(_ name: String, _ body: @escaping @Sendable () -> Report) throws(Failure) {
        try begin()
        do throws(Errno) {
            var started = Optional(try JoinableThread(name: name) { [self] in end(body()) })
            thread.withLock { $0 = started.take() }
        } catch {
            stage.withLock { $0 = .idle }
            throw .system("no thread to run the \(kind) on: \(error)")
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
    func close() throws(Failure) {
        try stage.withLock { stage throws(Failure) in
            switch stage {
            case .idle, .ended: stage = .freed
            case .running:
                throw .wrongState("the \(kind) still runs: end it, and wait for that, first")
            case .freed: throw .badHandle("the \(kind) was freed")
            }
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
