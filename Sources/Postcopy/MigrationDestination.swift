internal import Synchronization

/// The destination of one migration: takes a guest over and pulls its memory.
///
/// Make it, then `run` it on a thread that may block, `start` it on one of its own, or `await` it; observe
/// and steer it from any thread meanwhile. It holds on to the guest and its memory, and so does a
/// migration under way, whether or not this value is kept. Another migration takes another destination.
public struct MigrationDestination: Sendable {
    private let run: MigrationRun<DestinationSession, DestinationReport>

    private var session: DestinationSession { run.session }

    /// A destination for a guest whose memory is as the guest describes it now.
    /// - Throws: `ConfigurationError`; `UserfaultfdRefusal`, which names what this host refused and the
    ///   remedy; or `Errno`.
    public init(guest: any Guest, options: MigrationOptions = MigrationOptions()) throws {
        run = try MigrationRun(try DestinationSession(guest: guest, options: options))
    }

    // MARK: Running it

    /// Waits for a source, takes the guest over and runs it. Blocking: until every page is placed and
    /// huge pages are healed, if they are to be; or until the migration has ended otherwise. A guest
    /// that was paused waits in its missing pages until the process ends or `abandonGuest` is called,
    /// whether or not this value is kept.
    /// - Throws: when it was started before, or the guest's memory is in another migration; the listener
    ///   is closed then.
    public func run(on listener: consuming Listener) throws(StartRefusal) -> DestinationReport {
        let place = HandedOver(listener)
        return try run.run { session in session.run(on: place.take()) }
    }

    /// Does what `run(on:)` does on a thread of its own, and returns at once.
    /// - Throws: as `run(on:)`, or when the process may have no more threads.
    public func start(on listener: consuming Listener) throws(StartRefusal) {
        let place = HandedOver(listener)
        try run.start(name: "pc-destination") { session in session.run(on: place.take()) }
    }

    /// Does what `run(on:)` does on a thread of its own, and holds up none. Cancelling the task is
    /// `cancel`: it ends a wait for a source, and a migration that has not yet moved the guest.
    /// - Throws: as `start(on:)`.
    public func run(
        on listener: consuming Listener
    ) async throws(StartRefusal) -> DestinationReport {
        try start(on: listener)
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
    public func wait() throws(StartRefusal) -> DestinationReport { try run.wait() }

    /// Waits until a migration that was started has ended, and holds up no thread. Cancelling the task
    /// changes nothing.
    /// - Throws: `notStarted`.
    public func wait() async throws(StartRefusal) -> DestinationReport {
        try await run.waitAsynchronously()
    }

    // MARK: Observing it

    /// Where it stands; cheap, from any thread.
    public var progress: DestinationProgress { session.progress }

    /// Tells how it goes; see `MigrationSource.updates(everyNanoseconds:)`.
    /// - Throws: when the process may have no more threads or descriptors.
    public func updates(
        everyNanoseconds interval: UInt64 = 100_000_000
    ) throws(Errno) -> AsyncStream<DestinationProgress> {
        try run.updates(everyNanoseconds: interval)
    }

    /// Calls `body` with what `updates` tells; see `MigrationSource.observe(everyNanoseconds:_:)`.
    /// - Throws: when the process may have no more threads or descriptors.
    @discardableResult
    public func observe(
        everyNanoseconds interval: UInt64 = 100_000_000,
        _ body: @escaping @Sendable (DestinationProgress) -> Void
    ) throws(Errno) -> MigrationObservation {
        let observer = try run.observe(everyNanoseconds: interval) { news in
            switch news {
            case .status(let progress), .figures(let progress): body(progress)
            case .end: break
            }
        }
        return MigrationObservation { observer.cancel() }
    }

    /// Serves the missing pages of another process that shares the guest's memory, a vhost-user back-end
    /// for example; see `DestinationSession.attach`.
    /// - Throws: what is wrong with the client, or why it comes too late.
    public func attach(_ client: SharedClient) throws(SharedClientError) {
        try session.attach(client)
    }

    /// Serves a client no longer that is gone or stopped; see `DestinationSession.detach`.
    /// - Returns: whether it was attached.
    @discardableResult
    public func detach(_ client: SharedClient) -> Bool { session.detach(client) }

    // MARK: Steering it

    /// Ends a wait for a source, a migration that has not yet moved the guest, or the healing of huge
    /// pages.
    ///
    /// One that had paused before its guest ran is given up, and stays for its source, which has to hear
    /// that the guest never ran here; a second call ends that.
    public func cancel() { session.cancel() }

    /// Ends the link once the guest has moved, until `recover`; see `DestinationSession.pause`.
    /// - Returns: whether it is paused by that, or was already.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Lets the source of a paused migration in again; see `DestinationSession.recover`.
    /// - Returns: whether it is paused.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool {
        session.recover(on: listener)
    }

    /// Gives a paused guest up; see `DestinationSession.abandon`.
    /// - Returns: whether it is paused.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }

    /// Gives up a paused guest that is thrown away, once its run has ended: its threads go on and read
    /// zeros where pages are missing, so that they can be ended. Its memory may be migrated again.
    /// - Throws: where no guest waits for pages, or they may still come; then nothing has changed.
    public func abandonGuest() throws(AbandonRefusal) {
        try run.giveUpGuest { session in session.abandonGuest() }
    }
}

/// What goes to another thread, which takes it once.
private final class HandedOver<Value: ~Copyable & Sendable>: Sendable {
    private let value: Mutex<Value?>

    init(_ value: consuming Value) { self.value = Mutex(value) }

    /// - Precondition: it was not taken yet.
    func take() -> Value {
        let taken = value.withLock { $0.take() }
        switch consume taken {
        case .some(let value): return value
        case .none: fatalError("what was handed over was taken twice")
        }
    }
}
