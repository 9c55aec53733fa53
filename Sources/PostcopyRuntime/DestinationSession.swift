internal import FlightRecorder
public import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// The destination of one migration, on the thread that calls `run` and two of its own.
public final class DestinationSession: Sendable {
    let state: DestinationState
    let isCancelled = Atomic(false)
    private let hasRun = Atomic(false)

    /// How long the source may take to close after it was told that all is well.
    private static let closingNanosecondsMax: UInt64 = 2_000_000_000

    /// - Parameter passage: where pages go on to of a guest that leaves this host while it arrives.
    /// - Throws: `ConfigurationError`; `UserfaultfdRefusal`; or `Errno` when no descriptor is left.
    public convenience init(
        guest: any Guest, options: MigrationOptions, passage: PagePassage? = nil
    ) throws {
        try self.init(guest: guest, options: options, passage: passage, held: nil)
    }

    /// - Parameter held: called by each thread that reaches a point, which goes on when it returns.
    package init(
        guest: any Guest, options: MigrationOptions, passage: PagePassage? = nil,
        held: (@Sendable (HeldPoint) -> Void)?
    ) throws {
        try ConfigurationError.check(guest, options)
        state = try DestinationState(
            guest: guest, options: options, passage: passage, held: held)
    }

    /// Ends a wait for a source, a migration that has not yet moved the guest, or the healing of huge
    /// pages.
    ///
    /// One that had paused before its guest ran is given up, and stays for its source, which has to hear
    /// that the guest never ran here; a second call ends that.
    public func cancel() {
        isCancelled.store(true, ordering: .releasing)
        // The control thread may be waiting in a guest that loads its devices.
        if state.currentPhase != .none { state.cancel() }
        state.controlFlag.raise()
    }

    /// Ends the link once the guest has moved, for somebody to `recover` it later; no source is let in
    /// until then.
    /// - Returns: whether it is paused by that, or was already.
    @discardableResult
    public func pause() -> Bool {
        guard state.options.recovery.mode != .none else { return false }
        switch state.currentPhase {
        case .listening, .loaded, .running, .streamEnded, .paused: break
        // A QEMU up to 7.2 stays in a recovery for ever whose link ends.
        case .recovering: guard state.isSourceOurs else { return false }
        case .none, .setup, .advised, .discarding, .completed, .failed: return false
        }
        wish { wishes in
            wishes.pauses = true
            wishes.recovers = false
        }
        return true
    }

    /// Lets the source of a paused migration in again, which one that was not paused by hand does by
    /// itself.
    /// - Parameter listener: where the source will come from here on; `nil`: where it came before.
    /// - Returns: whether it is paused.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool {
        guard isPaused else { return false }
        var listener = listener
        wish {
            $0.recovers = true
            if let listener = listener.take() { $0.listener = consume listener }
        }
        return true
    }

    /// Gives a paused guest up: it hears of it (`Guest.memoryLost`), then threads that wait for pages
    /// get a memory error, and `run` returns.
    /// - Returns: whether it is paused.
    @discardableResult
    public func abandon() -> Bool {
        guard isPaused else { return false }
        wish { $0.abandons = true }
        return true
    }

    private var isPaused: Bool {
        switch state.currentPhase {
        case .paused, .recovering: true
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .failed:
            false
        }
    }

    private func wish(_ change: (inout DestinationWishes) -> Void) {
        state.recovery.wish(change)
        state.controlFlag.raise()
    }

    /// Paused migrations of guests that run: with its userfaultfd gone a guest would read zeros where
    /// pages are missing, so they are kept until the process ends or the guest is given up.
    private static let pausedGuests = Mutex<[DestinationState]>([])

    /// Gives up a paused guest that is thrown away: its threads go on and read zeros where pages are
    /// missing, so that they can be ended.
    /// - Precondition: `run` has returned, since a guest that still runs here would lose memory without a
    ///   word; and no other migration has the memory.
    public func abandonGuest() {
        state.endFaults()
        let state = state
        Self.pausedGuests.withLock { paused in paused.removeAll { $0 === state } }
    }

    /// Where it stands, from any thread.
    public var progress: DestinationProgress {
        let counters = state.counters
        var progress = DestinationProgress()
        progress.status = state.currentPhase.status
        progress.totalHostPages = state.totalHostPages
        progress.missingHostPages = state.demand.missing.load(ordering: .relaxed)
        progress.receivedBytes = counters.receivedBytes.load(ordering: .relaxed)
        progress.backgroundPages = counters.backgroundPages.load(ordering: .relaxed)
        progress.urgentPages = counters.urgentPages.load(ordering: .relaxed)
        progress.zeroPages = counters.zeroPages.load(ordering: .relaxed)
        progress.requests = counters.requests.load(ordering: .relaxed)
        progress.faults = counters.faults.load(ordering: .relaxed)
        progress.waitingVCPUs = state.waits.waitingVCPUs.load(ordering: .relaxed)
        progress.latency = state.waits.latency
        progress.waitedNanoseconds = state.waits.waitedNanoseconds
        progress.otherMigrations = counters.otherMigrations.load(ordering: .relaxed)
        progress.recovery = state.recovery.current
        return progress
    }

    /// Takes a migration in. Blocking: until every page is placed and huge pages are healed, if they
    /// are to be; or until it has ended otherwise. While it is paused it waits, unless the options say
    /// that nothing recovers it.
    /// - Precondition: it runs for the first time.
    public func run(on listener: consuming Listener) -> DestinationReport {
        guard !hasRun.exchange(true, ordering: .relaxed) else { trapOnSecondRun() }
        var control = DestinationControl(
            state: state, door: Door(listener, state.options))
        guard let main = control.acceptMain(isCancelled: isCancelled) else {
            var report = DestinationReport()
            report.status = .cancelled
            report.problem = "cancelled before a source connected"
            return report
        }
        return serve(main, &control)
    }

    /// Takes the migration in of a source that has connected. Blocking: as `run(on:)`.
    public func run(on stream: consuming IncomingStream) -> DestinationReport {
        guard !hasRun.exchange(true, ordering: .relaxed) else { trapOnSecondRun() }
        let main = stream.main
        var control = DestinationControl(state: state, door: stream.door)
        return serve(main, &control)
    }

    private func serve(
        _ main: Arrival, _ control: inout DestinationControl
    ) -> DestinationReport {
        var report = DestinationReport()
        report.faultOrigin = state.uffd.origin.rawValue
        do throws(Errno) { try serve(main, &control, &report) } catch {
            report.status = .failed
            report.problem = "\(error)"
        }
        return report
    }

    private func serve(
        _ main: Arrival, _ control: inout DestinationControl, _ report: inout DestinationReport
    ) throws(Errno) {
        let first = try DestinationLink(main, isResumed: false)
        let state = state
        let faults = try JoinableThread<WaitAccount.Outcome>(name: "pc-fault") {
            var thread = FaultThread(state: state, link: first)
            return thread.run()
        }
        var link: DestinationLink? = first
        var ending = Ending()
        while let current = link {
            ending = serve(current, &control)
            link = control.isDone ? nil : control.awaitSource(isCancelled: isCancelled)
        }
        if control.outcome.isAbandoned { giveUpGuest() }
        control.joinLoader()
        end(first)
        let waits = faults.join()
        report.blocktime = waits.blocktime
        // Nobody answers faults any more: a page that came as zero and was never touched is the guest's.
        if state.currentPhase == .completed { state.endFaults() }
        // The guest runs meanwhile, and its huge pages are seen to afterwards.
        control.answerLatecomers(
            ending.isAcknowledged, wasHeard: ending.wasHeard, isCancelled: isCancelled)
        conclude(&report, control.outcome)
        report.faultClockProblem = waits.clockProblem
        if state.options.recordsFaults {
            report.faultLog = FaultLog(of: state, report, waits)
        }
    }

    /// What a source knows of the end.
    private struct Ending {
        /// It has said so.
        var isAcknowledged = false
        /// It was there to hear of it, as far as this side knows, and was not listened to any more.
        var wasHeard = false
    }

    /// Serves one link until it breaks or the migration ends.
    private func serve(
        _ link: DestinationLink, _ control: inout DestinationControl
    ) -> Ending {
        let state = state
        let stream: JoinableThread<Void>?
        do throws(Errno) {
            stream = try JoinableThread<Void>(name: "pc-stream") {
                var thread = StreamThread(state: state, link: link)
                thread.run()
            }
        } catch {
            stream = nil
            link.streamEnded.raise()
            state.report(state.linkLoss, problem: "no thread to read the stream: \(error)")
        }
        control.run(link, isCancelled: isCancelled)
        var ending = Ending()
        // The source closes once it has the last word, and that word must not be cut off.
        let limit = control.linger(Self.closingNanosecondsMax)
        ending.wasHeard = limit > 0 && link.streamEnded.wait(timeoutNanoseconds: 0)
        _ = link.streamEnded.wait(timeoutNanoseconds: limit)
        if control.isDone {
            // A stream that broke the protocol ended before the source was told so.
            state.isEnding.store(true, ordering: .releasing)
            state.faultFlag.raise()
            _ = state.lastWordSent.wait(timeoutNanoseconds: limit)
        }
        link.main.socket.shutDown()
        stream?.join()
        link.isDown.store(true, ordering: .releasing)
        state.faultFlag.raise()
        // What it placed of this link's pages is noted by then.
        if !control.isDone { link.isLeft.wait() }
        ending.isAcknowledged = link.isAcknowledged.load(ordering: .acquiring)
        return ending
    }

    private func end(_ link: DestinationLink) {
        state.isEnding.store(true, ordering: .releasing)
        state.faultFlag.raise()
        link.main.socket.shutDown()
    }

    /// The guest hears of its loss before its threads meet it. One that never ran here just goes.
    private func giveUpGuest() {
        guard state.currentPhase.mayRunGuestHere else { return state.endFaults() }
        state.guest.memoryLost(state.missingPages)
        state.loseMissing()
    }

    private func conclude(
        _ report: inout DestinationReport, _ outcome: DestinationControl.Outcome
    ) {
        let log = state.log
        report.status = log.status
        report.problem = log.problem
        report.changes = log.changes
        report.endedAtNanoseconds = outcome.endedAtNanoseconds
        report.guestRunningAtNanoseconds = outcome.guestRunningAtNanoseconds
        report.guestRunsHere = outcome.guestRunningAtNanoseconds != nil
        report.isAbandoned = outcome.isAbandoned
        report.progress = progress
        report.breaks = state.recovery.current.breaks
        if report.status == .completed {
            report.problem = nil
            return restoreMemory(&report.memory)
        }
        if report.guestRunsHere, !report.isAbandoned {
            Self.pausedGuests.withLock { $0.append(state) }
        }
        report.missing = state.missingPages
    }
}
