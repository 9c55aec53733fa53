internal import LinuxKernel
internal import MigrationCore
internal import PostcopyRuntime
internal import Synchronization

/// Tells one listener how a run goes, on a thread of its own (`pc-watch`), so that no listener, however
/// slow, is waited for by the migration or by another one.
final class Observer<Session: ObservedSession>: Sendable {
    enum News: Sendable {
        /// A status was entered; the figures are of now.
        case status(Session.Progress)
        /// Its time has come, and nothing else.
        case figures(Session.Progress)
        /// Nothing follows.
        case end
    }

    private enum Stage {
        case idle
        case attached(Session)
        /// With what the report says at last.
        case ended(Session, MigrationStatus)
        case cancelled
    }

    private let stage = Mutex(Stage.idle)
    private let flag: EventFlag
    private let interval: UInt64
    private let body: @Sendable (News) -> Void

    /// A hundred times a second: figures are read in microseconds, but each time a core is taken from a
    /// vCPU or a sender, and the figures of a precopy change ten times a second.
    static var intervalNanosecondsMin: UInt64 { 10_000_000 }

    /// - Throws: when the process may have no more threads or descriptors.
    init(
        everyNanoseconds interval: UInt64, _ body: @escaping @Sendable (News) -> Void
    ) throws(Errno) {
        self.interval = max(interval, Self.intervalNanosecondsMin)
        self.body = body
        flag = try EventFlag()
        let thread = try JoinableThread<Void>(name: "pc-watch") { [self] in watch() }
        thread.detach()
    }

    /// The run begins; a second call changes nothing, nor does one behind the end.
    func attach(_ session: Session) {
        stage.withLock { stage in
            guard case .idle = stage else { return }
            session.statusFlags.add(flag)
            stage = .attached(session)
        }
        flag.raise()
    }

    /// The run of `session` has ended, whether or not it was attached to that.
    func end(of session: Session, in status: MigrationStatus) {
        stage.withLock { stage in
            switch stage {
            case .idle, .attached: stage = .ended(session, status)
            case .ended, .cancelled: break
            }
        }
        flag.raise()
    }

    /// Nothing is told any more, but for what is being told just now.
    func cancel() {
        let session = stage.withLock { stage -> Session? in
            defer { stage = .cancelled }
            switch stage {
            case .attached(let session), .ended(let session, _): return session
            case .idle, .cancelled: return nil
            }
        }
        // The thread may never have seen it.
        session?.statusFlags.remove(flag)
        flag.raise()
    }

    private func watch() {
        var session: Session?
        var told = Told()
        while true {
            // Before the statuses are read: all are there once the end is.
            let stage = stage.withLock { $0 }
            switch stage {
            case .idle: break
            case .attached(let current):
                session = current
                tell(of: current, &told)
            case .ended(let current, let last):
                session = current
                tell(of: current, &told)
                if told.last != last { tell(last, of: current) }
            case .cancelled: break
            }
            if isOver { break }
            if case .ended = stage { break }
            let limit = session == nil ? .max : interval
            told.isDue = !flag.wait(timeoutNanoseconds: limit)
            flag.clear()
        }
        session?.statusFlags.remove(flag)
        body(.end)
    }

    /// What this listener has heard.
    private struct Told {
        var changes = 0
        var last = MigrationStatus.none
        /// Whether figures are due, nothing having happened.
        var isDue = false
    }

    private func tell(of session: Session, _ told: inout Told) {
        let (changes, count) = session.statusChanges(after: told.changes)
        told.changes = count
        for change in changes where !isOver {
            told.last = change.status
            tell(change.status, of: session)
        }
        if changes.isEmpty, told.isDue, !isOver { body(.figures(session.progress)) }
    }

    private func tell(_ status: MigrationStatus, of session: Session) {
        guard !isOver else { return }
        var progress = session.progress
        progress.status = status
        body(.status(progress))
    }

    private var isOver: Bool {
        stage.withLock { stage in
            if case .cancelled = stage { return true }
            return false
        }
    }
}
