/// The source of one migration: hands a running guest over to a destination.
///
/// Make it, then `run` it on a thread that may block, `start` it on one of its own, or `await` it; observe
/// and steer it from any thread meanwhile. It holds on to the guest and its memory, and so does a
/// migration under way, whether or not this value is kept. Another migration takes another source.
public struct MigrationSource: Sendable {
    private let run: MigrationRun<SourceSession, SourceReport>

    private var session: SourceSession { run.session }

    /// A source of a guest's memory as the guest describes it now.
    /// - Throws: `ConfigurationError`; `TrackerRefusal` when a precopy is asked for and the guest's
    ///   writes cannot be tracked; or `Errno` when the process may open no more descriptors.
    public init(guest: any Guest, options: MigrationOptions = MigrationOptions()) throws {
        run = try MigrationRun(try SourceSession(guest: guest, options: options))
    }

    // MARK: Running it

    /// Connects, sends memory until the options' policy or `startPostcopy` ends that (without precopy it
    /// only waits for the latter), moves the guest and serves its pages. Blocking: until the
    /// migration has ended, well or not. Before the switch every failure leaves the guest running
    /// here.
    /// - Throws: when it was started before, or the guest's memory is in another migration.
    public func run(to address: ChannelAddress) throws(StartRefusal) -> SourceReport {
        try run.run { session in session.run(to: address) }
    }

    /// Does what `run(to:)` does on a thread of its own, and returns at once.
    /// - Throws: as `run(to:)`, or when the process may have no more threads.
    public func start(to address: ChannelAddress) throws(StartRefusal) {
        try run.start(name: "pc-source") { session in session.run(to: address) }
    }

    /// Does what `run(to:)` does on a thread of its own, and holds up none. Cancelling the task is
    /// `cancel`: before the switch it ends the migration; later the guest has moved, and this goes on.
    /// - Throws: as `start(to:)`.
    public func run(to address: ChannelAddress) async throws(StartRefusal) -> SourceReport {
        try start(to: address)
        let (run, session) = (run, session)
        let result = await withTaskCancellationHandler {
            await run.result()
        } onCancel: {
            session.cancel()
        }
        return try result.get()
    }

    /// Waits until a migration that was started has ended. Blocking; any number of threads may wait,
    /// also afterwards.
    /// - Throws: `notStarted`.
    public func wait() throws(StartRefusal) -> SourceReport { try run.wait() }

    /// Waits until a migration that was started has ended, and holds up no thread. Cancelling the task
    /// changes nothing.
    /// - Throws: `notStarted`.
    public func wait() async throws(StartRefusal) -> SourceReport {
        try await run.waitAsynchronously()
    }

    // MARK: Observing it

    /// Where it stands; cheap, from any thread.
    public var progress: SourceProgress { session.progress }

    /// Tells how it goes: each status that is entered, once and in order, and figures whenever so much
    /// time has passed without one. It ends with the migration, or when the reading task is cancelled.
    ///
    /// A reader that falls behind finds every status up to 128, and of more (a link that breaks without
    /// end) the latest 128; of figures the newest only. One task reads it; ask again for another. It may
    /// be asked for at any time, and begins with the first status.
    /// - Parameter interval: at least 10 ms, since each look takes a core from a vCPU or a sender for
    ///   some microseconds; less is taken for that.
    /// - Throws: when the process may have no more threads or descriptors.
    public func updates(
        everyNanoseconds interval: UInt64 = 100_000_000
    ) throws(Errno) -> AsyncStream<SourceProgress> {
        try run.updates(everyNanoseconds: interval)
    }

    /// Calls `body` with what `updates` tells.
    ///
    /// It is called on a thread of its own (`pc-watch`), one call at a time, the last once the migration
    /// has ended. It may block: then it is told later, of a migration with more than 128 statuses at
    /// least the latest 64 and otherwise all, and neither the migration nor another observer waits for it.
    /// It may call anything of this value.
    /// - Throws: when the process may have no more threads or descriptors.
    @discardableResult
    public func observe(
        everyNanoseconds interval: UInt64 = 100_000_000,
        _ body: @escaping @Sendable (SourceProgress) -> Void
    ) throws(Errno) -> MigrationObservation {
        let observer = try run.observe(everyNanoseconds: interval) { news in
            switch news {
            case .status(let progress), .figures(let progress): body(progress)
            case .end: break
            }
        }
        return MigrationObservation { observer.cancel() }
    }

    /// Whether the guest is called no more, where the migration has ended.
    package var isGuestLeft: Bool { session.isGuestLeft }

    // MARK: Steering it

    /// Lets the guest move as soon as the destination is ready.
    public func startPostcopy() { session.startPostcopy() }

    /// Ends a migration whose guest has not moved yet; later it has no effect.
    public func cancel() { session.cancel() }

    /// Ends the link once the guest has moved, until `recover`; see `SourceSession.pause`.
    /// - Returns: whether it is paused by that, or was already.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Tries a paused migration's link again, now; see `SourceSession.recover`.
    /// - Returns: whether it is paused.
    @discardableResult
    public func recover(at addresses: [ChannelAddress] = []) -> Bool {
        session.recover(at: addresses)
    }

    /// Gives a paused migration up: its run ends, and the guest is not started here.
    /// - Returns: whether it is paused.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }

    /// The limits that are in force; at first those of the options.
    public var limits: MigrationLimits { session.limits }

    /// Changes limits, before or while it runs: `try source.setLimits { $0.maxBandwidth = 100_000_000 }`.
    ///
    /// A bandwidth holds from the next write on, a downtime limit from the end of the round on. Limits of
    /// a part of the migration that is over have no effect.
    /// - Parameter change: called again where somebody else changed them meanwhile.
    /// - Throws: for a limit of 0, and for a downtime limit over 2,000 s or without precopy; then
    ///   nothing has changed.
    public func setLimits(
        _ change: (inout MigrationLimits) -> Void
    ) throws(ConfigurationError) {
        try session.setLimits(change)
    }

    /// Says that nobody needs the content of whole target pages of a block any more; see
    /// `SourceSession.hint`. The guest must not write them before this returns.
    /// - Throws: what the tracker's kernel call answers; then nothing was left out.
    public func hint(free pages: Range<Int>, ofBlock block: Int) throws(Errno) {
        try session.hint(free: pages, ofBlock: block)
    }
}
