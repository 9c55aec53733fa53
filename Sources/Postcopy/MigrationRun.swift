internal import LinuxKernel
internal import MigrationCore
internal import PostcopyRuntime
internal import Synchronization

/// What the runs of both sides have in common when they end.
protocol RunReport: Sendable {
    var status: MigrationStatus { get }
    /// Whether memory stays registered: a guest here waits for pages that are not given up.
    var keepsMemory: Bool { get }
    static var side: MigrationMetrics.Side { get }
    func tell(_ metrics: MigrationMetrics)
}

/// Figures that a metrics backend is told.
protocol MeasuredProgress {
    func tell(_ metrics: MigrationMetrics)
}

extension SourceProgress: MeasuredProgress {
    func tell(_ metrics: MigrationMetrics) { metrics.tell(self) }
}

extension DestinationProgress: MeasuredProgress {
    func tell(_ metrics: MigrationMetrics) { metrics.tell(self) }
}

extension SourceReport: RunReport {
    static var side: MigrationMetrics.Side { .source }
    func tell(_ metrics: MigrationMetrics) { metrics.tell(self) }
    var keepsMemory: Bool { false }
}

extension DestinationReport: RunReport {
    static var side: MigrationMetrics.Side { .destination }
    func tell(_ metrics: MigrationMetrics) { metrics.tell(self) }
    var keepsMemory: Bool { status != .completed && guestRunsHere && !isAbandoned }
}

/// One run of a session: it begins once, is observed, and leaves its report for all who wait.
final class MigrationRun<Session: ObservedSession, Report: RunReport>: Sendable
where Session.Progress: MeasuredProgress {
    let session: Session
    private let state = Mutex(State())
    private let ended: EventFlag

    private enum Stage {
        case idle
        /// It may yet be refused, and is idle again then.
        case starting
        case begun
    }

    private struct State {
        var stage = Stage.idle
        var report: Report?
        var waiters: [CheckedContinuation<Report, Never>] = []
        var observers: [Observer<Session>] = []
        /// Blocks that nobody else may migrate meanwhile.
        var taken: [GuestRAM] = []
    }

    /// - Throws: when no descriptor is left.
    init(_ session: Session) throws(Errno) {
        self.session = session
        ended = try EventFlag()
    }

    deinit {
        // Without a run nothing will ever happen; the thread of a run holds on to this.
        for observer in state.withLock({ $0.observers }) { observer.cancel() }
    }

    // MARK: Running

    /// Does the work on the calling thread.
    func run(_ work: (Session) -> Report) throws(StartRefusal) -> Report {
        try begin()
        return follow(work)
    }

    /// Does the work on a thread of its own.
    func start(
        name: String, _ work: @escaping @Sendable (Session) -> Report
    ) throws(StartRefusal) {
        try begin()
        do throws(Errno) {
            let thread = try JoinableThread<Void>(name: name) { [self] in _ = follow(work) }
            thread.detach()
        } catch {
            giveMemoryBack()
            state.withLock { $0.stage = .idle }
            throw .noThread(error)
        }
        // The thread may not have run yet, and who has started may wait.
        state.withLock { $0.stage = .begun }
    }

    private func begin() throws(StartRefusal) {
        let isFirst = state.withLock { state in
            guard state.stage == .idle else { return false }
            state.stage = .starting
            return true
        }
        guard isFirst else { throw .alreadyStarted }
        do throws(StartRefusal) { try takeMemory() } catch {
            state.withLock { $0.stage = .idle }
            throw error
        }
    }

    private func follow(_ work: (Session) -> Report) -> Report {
        let early = state.withLock { state in
            state.stage = .begun
            return state.observers
        }
        for observer in early { observer.attach(session) }
        let metrics = MigrationMetrics.ofProcess(side: Report.side, memory: session.memory)
        if let metrics { measure(metrics) }
        let report = work(session)
        if let metrics { report.tell(metrics) }
        // A guest that is still to stop for this migration must not be let run again in the next.
        if !report.keepsMemory { session.whenGuestIsLeft { [self] in giveMemoryBack() } }
        let (waiters, observers) = state.withLock { state in
            state.report = report
            defer {
                state.waiters = []
                state.observers = []
            }
            return (state.waiters, state.observers)
        }
        for observer in observers { observer.end(of: session, in: report.status) }
        ended.raise()
        for waiter in waiters { waiter.resume(returning: report) }
        return report
    }

    // MARK: Memory

    private func takeMemory() throws(StartRefusal) {
        guard session.hasSameMemory else { throw .memoryChanged }
        for ram in session.memory {
            do throws(RAMError) { try ram.checkMapping() } catch { throw .memory(error) }
        }
        var taken: [GuestRAM] = []
        for ram in session.memory {
            guard ram.take() else {
                for ram in taken { ram.giveBack() }
                throw .memoryInUse(block: ram.geometry.name)
            }
            taken.append(ram)
        }
        state.withLock { [taken] in $0.taken = taken }
    }

    /// Does `body` to a guest whose memory this kept when it ended, then lets others migrate it. Once:
    /// the next time it may be theirs.
    func giveUpGuest(_ body: (Session) -> Void) throws(AbandonRefusal) {
        let kept = state.withLock { state -> [GuestRAM]? in
            guard let report = state.report else { return nil }
            guard report.keepsMemory else { return [] }
            defer { state.taken = [] }
            return state.taken
        }
        guard let kept else { throw .notEnded }
        guard !kept.isEmpty else { throw .notPaused }
        body(session)
        for ram in kept { ram.giveBack() }
    }

    /// Lets others migrate the guest's memory. A second call has nothing to give.
    private func giveMemoryBack() {
        let taken = state.withLock { state in
            defer { state.taken = [] }
            return state.taken
        }
        for ram in taken { ram.giveBack() }
    }

    // MARK: Waiting

    /// One that is about to begin may be refused, and then nobody would wake who waits.
    private var hasBegun: Bool { state.withLock { $0.stage == .begun } }

    /// Blocks until the run has ended.
    func wait() throws(StartRefusal) -> Report {
        guard hasBegun else { throw .notStarted }
        ended.wait()
        guard let report = state.withLock({ $0.report }) else {
            fatalError("a run ended without a report")
        }
        return report
    }

    /// The same without holding up a thread.
    func waitAsynchronously() async throws(StartRefusal) -> Report {
        guard hasBegun else { throw .notStarted }
        return await withCheckedContinuation { continuation in
            let report: Report? = state.withLock { state in
                if state.report == nil { state.waiters.append(continuation) }
                return state.report
            }
            if let report { continuation.resume(returning: report) }
        }
    }

    /// The same, for those who cannot throw a type of error.
    func result() async -> Result<Report, StartRefusal> {
        do throws(StartRefusal) { return .success(try await waitAsynchronously()) } catch {
            return .failure(error)
        }
    }

    // MARK: Observing

    /// Has `body` told how the run goes, on a thread of its own.
    /// - Throws: when the process may have no more threads or descriptors.
    func observe(
        everyNanoseconds interval: UInt64,
        _ body: @escaping @Sendable (Observer<Session>.News) -> Void
    ) throws(Errno) -> Observer<Session> {
        let observer = try Observer<Session>(everyNanoseconds: interval, body)
        let (hasBegun, report) = state.withLock { state in
            if state.report == nil { state.observers.append(observer) }
            return (state.stage == .begun, state.report)
        }
        // Twice is once, if it begins just now; and it may have ended before this.
        if hasBegun { observer.attach(session) }
        if let report { observer.end(of: session, in: report.status) }
        return observer
    }

    /// Has a metrics backend told how the run goes, ten times a second. Without a thread for that it
    /// hears of the end alone.
    private func measure(_ metrics: MigrationMetrics) {
        _ = try? observe(everyNanoseconds: 100_000_000) { news in
            switch news {
            case .status(let progress), .figures(let progress): progress.tell(metrics)
            case .end: break
            }
        }
    }

    /// The same as a sequence that is read by one task.
    func updates(everyNanoseconds interval: UInt64) throws(Errno) -> AsyncStream<Session.Progress> {
        let feed = ProgressFeed<Session.Progress>()
        let observer = try observe(everyNanoseconds: interval) { [weak feed] news in
            switch news {
            case .status(let progress): feed?.post(progress, isStatus: true)
            case .figures(let progress): feed?.post(progress, isStatus: false)
            case .end: feed?.end()
            }
        }
        feed.whenLeft { observer.cancel() }
        return AsyncStream(unfolding: { await feed.next() }, onCancel: { feed.end() })
    }
}
