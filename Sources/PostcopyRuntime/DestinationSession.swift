public import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// The destination of one migration, on the thread that calls `run` and two of its own.
public final class DestinationSession: Sendable {
    let state: DestinationState
    let isCancelled = Atomic(false)

    /// How long the source may take to close after it was told that all is well.
    private static let closingNanosecondsMax: UInt64 = 2_000_000_000

    /// - Parameter passage: where pages go on to of a guest that leaves this host while it arrives.
    /// - Throws: `ConfigurationError`; `UserfaultfdRefusal`; or `Errno` when no descriptor is left.
    public init(
        guest: any Guest, options: MigrationOptions, passage: PagePassage? = nil
    ) throws {
        try ConfigurationError.check(guest, options)
        state = try DestinationState(guest: guest, options: options, passage: passage)
    }

    /// Ends a wait for a source, a migration that has not yet moved the guest, or the healing of huge
    /// pages.
    public func cancel() {
        isCancelled.store(true, ordering: .releasing)
        // The control thread may be waiting in a guest that loads its devices.
        if state.currentPhase != .none { state.cancel() }
        state.controlFlag.raise()
    }

    /// Ends the link once the guest has moved, for somebody to `recover` it later; no source is let in
    /// until then.
    /// - Returns: whether there was a link to end.
    @discardableResult
    public func pause() -> Bool { false }

    /// Lets the source of a paused migration in again, which one that was not paused by hand does by
    /// itself.
    /// - Parameter listener: where the source will come from here on; `nil`: where it came before.
    /// - Returns: whether it is paused.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool { false }

    /// Gives a paused guest up: it hears of it (`Guest.memoryLost`), then threads that wait for pages
    /// get a memory error, and `run` returns.
    /// - Returns: whether it is paused.
    @discardableResult
    public func abandon() -> Bool { false }

    /// Paused migrations of guests that run: with its userfaultfd gone a guest would read zeros where
    /// pages are missing, so they are kept until the process ends or the guest is given up.
    private static let pausedGuests = Mutex<[DestinationState]>([])

    /// Gives up a paused guest that is thrown away: its threads go on and read zeros where pages are
    /// missing, so that they can be ended.
    public func abandonGuest() {
        state.endFaults()
        let state = state
        Self.pausedGuests.withLock { paused in paused.removeAll { $0 === state } }
    }

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
        progress.otherMigrations = counters.otherMigrations.load(ordering: .relaxed)
        return progress
    }

    /// Takes a migration in. Blocking: until every page is placed and huge pages are healed, if they
    /// are to be; or until it has ended otherwise.
    public func run(on listener: consuming Listener) -> DestinationReport {
        var control = DestinationControl(state: state, listener: listener)
        do {
            guard let main = try control.acceptMain(isCancelled: isCancelled) else {
                var report = DestinationReport()
                report.status = .cancelled
                report.problem = "cancelled before a source connected"
                return report
            }
            ChannelTuning.prepare(main, state.options)
            return serve(main, opening: [], &control)
        } catch {
            return failure(error)
        }
    }

    /// Takes the migration in of a source that has connected. Blocking: as `run(on:)`.
    public func run(on stream: consuming IncomingStream) -> DestinationReport {
        let opening = stream.opening
        var control = DestinationControl(state: state, listener: stream.listener)
        return serve(stream.main, opening: opening, &control)
    }

    private func failure(_ error: any Error) -> DestinationReport {
        var report = DestinationReport()
        report.status = .failed
        report.problem = "\(error)"
        return report
    }

    private func serve(
        _ main: consuming StreamSocket, opening: [UInt8], _ control: inout DestinationControl
    ) -> DestinationReport {
        var report = DestinationReport()
        report.faultOrigin = state.uffd.origin.rawValue
        do { try serve(main, opening: opening, &control, &report) } catch {
            return failure(error)
        }
        return report
    }

    private func serve(
        _ main: consuming StreamSocket, opening: [UInt8], _ control: inout DestinationControl,
        _ report: inout DestinationReport
    ) throws {
        let link = try DestinationLink(main: main)
        let state = state
        let faults = try JoinableThread<BlocktimeReport>(name: "pc-fault") {
            var thread = FaultThread(state: state, link: link)
            return thread.run()
        }
        let stream: JoinableThread<Void>
        do {
            stream = try JoinableThread<Void>(name: "pc-stream") {
                var thread = StreamThread(state: state, link: link, opening: opening)
                thread.run()
            }
        } catch {
            Self.end(link, state)
            _ = faults.join()
            throw error
        }
        control.run(link, isCancelled: isCancelled)
        // The source closes once it has the last word, and that word must not be cut off.
        let limit = control.linger(Self.closingNanosecondsMax)
        _ = link.streamEnded.wait(timeoutNanoseconds: limit)
        link.isEnding.store(true, ordering: .releasing)
        state.faultFlag.raise()
        // A stream that broke the protocol ended before the source was told so.
        _ = link.lastWordSent.wait(timeoutNanoseconds: limit)
        Self.end(link, state)
        report.blocktime = faults.join()
        stream.join()
        conclude(&report, control)
    }

    private static func end(_ link: DestinationLink, _ state: DestinationState) {
        link.isEnding.store(true, ordering: .releasing)
        state.faultFlag.raise()
        link.main.shutDown()
    }

    private func conclude(
        _ report: inout DestinationReport, _ control: borrowing DestinationControl
    ) {
        let log = state.log
        report.status = log.status
        report.problem = log.problem
        report.changes = log.changes
        report.endedAtNanoseconds = control.endedAtNanoseconds
        report.guestRunningAtNanoseconds = control.guestRunningAtNanoseconds
        report.guestRunsHere = control.guestRunningAtNanoseconds != nil
        report.progress = progress
        if report.status == .completed {
            report.problem = nil
            state.endFaults()
            return restoreMemory(&report.memory)
        }
        if report.guestRunsHere { Self.pausedGuests.withLock { $0.append(state) } }
        for (index, ram) in state.list.sent {
            let missing = ram.usedHostPages - state.demand.received[index.rawValue].placedCount
            guard missing > 0 else { continue }
            report.missing.append(
                .init(
                    block: ram.geometry.name, hostPages: missing,
                    bytes: UInt64(missing) << UInt64(ram.geometry.hostPage.shift)))
        }
    }
}
