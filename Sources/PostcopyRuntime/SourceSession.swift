internal import FlightRecorder
public import LinuxKernel
public import MigrationCore
internal import PageModel
internal import Synchronization

/// The source of one migration, on the thread that calls `run` and two of its own.
public final class SourceSession: Sendable {
    let state: SourceState
    package let statusFlags = StatusFlags()
    private let log = Mutex(PhaseLog())
    private let hasRun = Atomic(false)

    /// - Parameter passage: where pages come from that are not here yet; without precopy.
    /// - Throws: `ConfigurationError`, or `Errno` when no descriptor is left.
    public init(
        guest: any Guest, options: MigrationOptions, passage: PagePassage? = nil
    ) throws {
        precondition(passage == nil || options.precopy == nil, "what is not here is not precopied")
        try ConfigurationError.check(guest, options)
        state = try SourceState(guest: guest, options: options, passage: passage)
    }

    /// Lets the guest move as soon as the destination is ready.
    public func startPostcopy() { state.wish(.startPostcopy) }

    /// Ends a migration whose guest has not moved yet; later it has no effect.
    public func cancel() { state.wish(.cancel) }

    /// Ends the link once the guest has moved, for somebody to `recover` it later; nothing is tried
    /// until then, nor in a pause that had begun before. What a QEMU is about to take up is not ended.
    /// - Returns: whether it is paused by that, or was already.
    @discardableResult
    public func pause() -> Bool { state.recovery.pause() }

    /// Tries a paused migration's link again, now.
    /// - Parameter addresses: where the destination is from here on; none: where it was.
    /// - Returns: whether it is paused.
    @discardableResult
    public func recover(at addresses: [ChannelAddress] = []) -> Bool {
        state.recovery.recover(at: addresses)
    }

    /// Gives a paused migration up: `run` returns, and the guest is not started here.
    /// - Returns: whether it is paused.
    @discardableResult
    public func abandon() -> Bool { state.recovery.abandon() }

    /// Says that nobody needs the content of whole target pages any more, so that a precopy does not
    /// send it, or sends nine bytes for a page that the destination does not have yet; what reads
    /// them later there finds zeros, or what they held once.
    /// Without precopy, and once the guest has stopped, it has no effect.
    ///
    /// Threads: any. The guest must not write the pages before this returns; it may afterwards.
    /// - Parameter pages: target pages of the block, counted from its first.
    /// - Throws: what the tracker's kernel call answers; then nothing was left out.
    /// - Precondition: the block exists and has the pages.
    ///
    /// Source: `qemu_guest_free_page_hint` (`migration/ram.c`).
    public func hint(free pages: Range<Int>, ofBlock block: Int) throws(Errno) {
        precondition(state.geometries.indices.contains(block), "a hint names a block")
        let count = state.geometries[block].targetPageCount
        precondition(
            pages.lowerBound >= 0 && pages.upperBound <= count, "a hint is inside its block")
        try state.hint(free: pages, of: BlockIndex(rawValue: block))
    }

    /// Whether the guest is called no more, where the migration has ended.
    package var isGuestLeft: Bool { state.guestStop.withLock { $0 }?.isLeft ?? true }

    package func statusChanges(after count: Int) -> (changes: [StatusChange], count: Int) {
        log.withLock { log in (log.changes(after: count), log.changeCount) }
    }

    /// The limits that are in force.
    public var limits: MigrationLimits { state.limits.current }

    /// Changes the limits, before or while it runs, from any thread. A bandwidth holds from the next
    /// write on; a downtime limit is asked for at the end of a round. Those of a part of the migration
    /// that is over have no effect.
    /// - Parameter change: called again where somebody else changed them meanwhile; it must not wait.
    /// - Throws: for a bandwidth of 0, for a downtime limit of 0 or over 2,000 s, and for one where
    ///   there is no precopy; then nothing has changed.
    public func setLimits(
        _ change: (inout MigrationLimits) -> Void
    ) throws(ConfigurationError) {
        try state.limits.change(change)
    }

    /// Where it stands, from any thread.
    public var progress: SourceProgress {
        let counters = state.counters
        var progress = SourceProgress()
        progress.status = log.withLock { $0.status }
        progress.totalPages = state.totalPages
        progress.remainingPages = state.owed.remaining.load(ordering: .relaxed)
        progress.sentBytes = counters.sentBytes
        progress.normalPages = counters.normalPages.load(ordering: .relaxed)
        progress.zeroPages = counters.zeroPages.load(ordering: .relaxed)
        progress.urgentPages = counters.urgentPages.load(ordering: .relaxed)
        progress.urgentBytes = counters.urgentBytes.load(ordering: .relaxed)
        progress.requests = counters.requests.load(ordering: .relaxed)
        progress.releasedBytes = counters.releasedBytes.load(ordering: .relaxed)
        progress.precopy = state.precopy?.progress
        progress.recovery = state.recovery.progress
        return progress
    }

    /// Hands the guest over. Blocking: until the migration has ended, well or not.
    /// - Parameter announce: told each status that is entered, on the thread that runs this.
    /// - Precondition: it runs for the first time.
    public func run(
        to address: ChannelAddress, announce: @escaping (MigrationStatus) -> Void = { _ in }
    ) -> SourceReport {
        guard !hasRun.exchange(true, ordering: .relaxed) else { trapOnSecondRun() }
        var report = SourceReport()
        report.startedAtNanoseconds = Monotonic.now()
        report.hugeBytesAtStart = GuestRAM.hugeBytes(of: state.blocks)
        do {
            let link = try SourceLink(main: try connect(to: address))
            // Whoever comes back must not depend on a name that nobody resolves just then.
            var control = SourceControl(
                state: state, link: link, address: link.main.peerAddress ?? address,
                announce: { [self] now in note(now, announce) })
            try serve(link, &control) { control in control.run() }
            while control.mayComeBack, let link = control.nextLink() {
                do throws(Errno) {
                    try serve(link, &control) { control in control.comeBack() }
                } catch {
                    control.note(trouble: "no thread for the return path: \(error)")
                }
            }
            report.endedAtNanoseconds = Monotonic.now()
            control.endTracking()
            control.conclude(&report)
        } catch {
            note(.failed, announce)
            report.status = .failed
            report.problem = "\(error)"
            report.changes = [StatusChange(status: .failed, atNanoseconds: Monotonic.now())]
        }
        if report.endedAtNanoseconds == 0 { report.endedAtNanoseconds = Monotonic.now() }
        report.progress = progress
        if state.options.recordsFaults { report.faultLog = FaultLog(of: state, report) }
        return report
    }

    private func note(
        _ now: MigrationStatus, _ announce: (MigrationStatus) -> Void
    ) {
        let isNews = log.withLock { log in
            guard log.status != now else { return false }
            log.enter(now)
            return true
        }
        guard isNews else { return }
        statusFlags.raise()
        announce(now)
    }

    private func connect(to address: ChannelAddress) throws(ChannelError) -> StreamSocket {
        let socket = try StreamSocket.connect(to: address)
        ChannelTuning.prepare(socket, state.options)
        return socket
    }

    /// Runs what the control thread does on a link beside the thread that reads its return path.
    private func serve(
        _ link: SourceLink, _ control: inout SourceControl,
        _ body: (inout SourceControl) -> Void
    ) throws(Errno) {
        let state = state
        let returnPath = try JoinableThread<Void>(name: "pc-return") {
            var thread = ReturnPathThread(state: state, link: link)
            thread.run()
        }
        body(&control)
        // What is still on its way to a destination that has everything gets there.
        if control.mayComeBack { link.end() } else { link.main.shutDown() }
        returnPath.join()
        control.takeLastWords()
    }
}

/// What a session holds is used up by its run.
func trapOnSecondRun() -> Never {
    fatalError("a migration session ran twice: make another one for another migration")
}
