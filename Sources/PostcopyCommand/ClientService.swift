internal import Postcopy
internal import Synchronization

/// One client: takes its hand-off and serves its memory until it ends, has everything, or is given up.
final class ClientService: Sendable {
    private let number: Int
    private let process: Int32?
    private let content: JoinedContent
    private let plan: ServicePlan
    private let stopFlag: EventFlag
    /// Relaxed: looked at now and then.
    private let isDraining: Atomic<Bool>
    /// Raised when there is nothing left to wait for.
    let hasEnded: EventFlag
    /// Relaxed: looked at now and then.
    private let isTaken = Atomic(false)
    private let handler = Mutex<(handler: FaultHandler, totalPages: Int)?>(nil)
    private let thread = Mutex<JoinableThread<ClientOutcome>?>(nil)

    /// How often a client that needs no page is looked after.
    private static let lookNanoseconds: UInt64 = 20_000_000

    /// How often all that is missing is asked for, and the time between: storage that is away for a moment
    /// is there again, and who interrupts the command waits for no longer than that.
    private static let fillsMax = 5
    private static let fillPauseNanoseconds: UInt64 = 1_000_000_000

    /// - Throws: `Errno` when the process may have no more threads or descriptors.
    init(
        _ socket: consuming StreamSocket, number: Int, content: JoinedContent, plan: ServicePlan
    ) throws(Errno) {
        self.number = number
        self.content = content
        self.plan = plan
        process = socket.peerProcess
        isDraining = Atomic(false)
        stopFlag = try EventFlag()
        hasEnded = try EventFlag()
        let connection = OneUse(socket)
        var started: JoinableThread<ClientOutcome>? = try JoinableThread(name: "pc-client") {
            [self] in
            defer { hasEnded.raise() }
            return serve(connection.take())
        }
        thread.withLock { $0 = started.take() }
    }

    var isOver: Bool { hasEnded.wait(timeoutNanoseconds: 0) }
    /// Whether its hand-off was taken: its memory is served, or was.
    var isServed: Bool { isTaken.load(ordering: .relaxed) }
    var progress: FaultProgress? { handler.withLock { $0?.handler }?.progress }
    var totalPages: Int { handler.withLock { $0?.totalPages } ?? 0 }

    /// Brings all that is missing, and lets it go then.
    func drain() { isDraining.store(true, ordering: .relaxed) }

    /// Whether the client's memory is known to be gone: its userfaultfd says so, whatever became of the
    /// process's id.
    var isClientGone: Bool { handler.withLock { $0?.handler }?.isOwnerGone ?? false }

    /// Has it end soon.
    func stop() { stopFlag.raise() }

    /// What became of it. Blocking: until it has ended. To be called once.
    func outcome() -> ClientOutcome {
        let thread = thread.withLock { $0.take() }
        switch consume thread {
        case .some(let thread): return thread.join()
        case .none: fatalError("a client's outcome was asked for twice")
        }
    }

    private func serve(_ socket: consuming StreamSocket) -> ClientOutcome {
        var outcome = ClientOutcome(number: number, process: process)
        do {
            let memory = try FirecrackerHandOff.receive(
                from: socket, contentBytes: content.lengthBytes, unless: stopFlag)
            guard let memory else { return outcome }
            outcome.regions = memory.regions
            try serve(memory, &outcome)
        } catch let error as HandOffError {
            outcome.ending = .refused("\(error)")
        } catch {
            outcome.ending = .failed("\(error)")
        }
        outcome.endedAtNanoseconds = Monotonic.now()
        return outcome
    }

    private func serve(
        _ memory: consuming ForeignMemory, _ outcome: inout ClientOutcome
    ) throws {
        let regions = memory.regions
        let pages = RegionPages(content: content, offsets: regions.map(\.contentOffset))
        let handler = try FaultHandler(
            serving: memory, pages: pages, options: plan.options)
        let total = regions.reduce(0) { $0 + $1.geometry.hostPageCount }
        if let trace = plan.trace { try handler.prefetch(trace) }
        try handler.start()
        self.handler.withLock { $0 = (handler, total) }
        isTaken.store(true, ordering: .relaxed)
        let ending = attend(handler)
        let report = handler.stop()
        self.handler.withLock { $0 = nil }
        outcome.report = plan.keepsTrace ? report : report.inShort
        outcome.ending = report.error.map(ClientOutcome.Ending.init) ?? ending
    }

    /// Waits until nobody needs the handler.
    private func attend(_ handler: FaultHandler) -> ClientOutcome.Ending {
        var (fills, nextFill) = (0, UInt64(0))
        var wasDraining = false
        while !handler.waitUntilEnded(timeoutNanoseconds: Self.lookNanoseconds) {
            if stopFlag.wait(timeoutNanoseconds: 0) { return .stopped }
            let drains = isDraining.load(ordering: .relaxed)
            // Pages that come over the network come in order by themselves.
            guard drains || plan.fills, content.isWhole() else { continue }
            if fills > 0, handler.progress.missingPages == 0 { return .hasEverything }
            if drains, !wasDraining { (fills, nextFill, wasDraining) = (0, 0, true) }
            guard handler.isBackgroundIdle, Monotonic.now() >= nextFill else { continue }
            if fills < Self.fillsMax {
                handler.fill()
                fills += 1
                nextFill = Monotonic.now() + Self.fillPauseNanoseconds
            } else if drains {
                return .incomplete
            }
        }
        return .stopped
    }
}

/// What became of a client.
struct ClientOutcome: Sendable {
    enum Ending: Sendable {
        /// Its process has ended.
        case gone
        /// Every page was brought: it needs nobody any more.
        case hasEverything
        /// This side ended first.
        case stopped
        /// It was to be brought every page, and some cannot be had.
        case incomplete
        case refused(String)
        case failed(String)

        init(_ error: FaultHandlerError) {
            self = error == .ownerGone ? .gone : .failed("\(error)")
        }
    }

    let number: Int
    /// `nil` where the client has no id in this process's namespace.
    let process: Int32?
    var regions: [ForeignRegion] = []
    var report: FaultReport?
    var ending = Ending.stopped
    let startedAtNanoseconds = Monotonic.now()
    var endedAtNanoseconds: UInt64 = Monotonic.now()

    init(number: Int, process: Int32?) {
        self.number = number
        self.process = process
    }

    var lengthBytes: UInt64 { regions.reduce(0) { $0 + $1.geometry.lengthBytes } }
    private var missing: Int { report?.progress.missingPages ?? 0 }

    var isRefused: Bool {
        guard case .refused = ending else { return false }
        return true
    }

    /// "client 1 (process 4711)".
    var name: String { "client \(number)\(process.map { " (process \($0))" } ?? "")" }

    /// Why it did not go as it should; `nil` when it did.
    var problem: String? {
        switch ending {
        case .refused(let reason): return "\(name): the hand-off was refused: \(reason)"
        case .failed(let reason): return "\(name): \(reason)"
        case .incomplete:
            return "\(name) could not be brought \(missingPages): "
                + "\(report?.backgroundProblem ?? "no reason is known"); whoever touches one "
                + missingOutcome
        case .stopped where report == nil: return "\(name) was not served"
        case .stopped where missing > 0:
            return "\(name) was left without \(missingPages): whoever touches one \(missingOutcome)"
        case .gone, .hasEverything, .stopped: break
        }
        guard let lost = report?.lost.first, let count = report?.progress.lostPages else {
            return nil
        }
        return "\(name): \(Readable.count(count, "page", "pages")) could not be served: "
            + lost.problem
    }

    private var missingPages: String { Readable.count(UInt64(missing), "page", "pages") }

    private var missingOutcome: String {
        switch report?.missingAtStop {
        case .poisoned: "gets SIGBUS"
        case .waits: "waits, for this kernel cannot say that they are lost (Linux 6.6 can)"
        case .zeros, nil: "finds zeros"
        }
    }

    /// For people who read along.
    var line: String {
        if let problem { return problem }
        let faults = report?.progress.faults ?? 0
        let after = Readable.time(endedAtNanoseconds - startedAtNanoseconds)
        return switch ending {
        case .hasEverything: "\(name) has every page after \(after) and \(faults) faults"
        default: "\(name) has ended after \(after) and \(faults) faults"
        }
    }
}
