// An embedder writes one import: what a guest is made of (RAM blocks, page sizes, addresses, reports)
// comes along.
@_exported public import LinuxKernel
@_exported public import MigrationCore
@_exported public import PageModel
@_exported public import PostcopyRuntime

/// The source of one migration: hands a running guest over to a destination.
///
/// Make it, call `run` on a thread that may block, and steer it from any other.
public struct MigrationSource: Sendable {
    private let session: SourceSession

    /// - Throws: `ConfigurationError`; `TrackerRefusal` when a precopy is asked for and the guest's
    ///   writes cannot be tracked; or `Errno` when the process may open no more descriptors.
    public init(guest: any Guest, options: MigrationOptions = MigrationOptions()) throws {
        session = try SourceSession(guest: guest, options: options)
    }

    /// Connects, sends memory until the options' policy or `startPostcopy` ends that (without precopy it
    /// only waits for the latter), moves the guest and serves its pages. Blocking: until the
    /// migration has ended, well or not. Before the switch every failure leaves the guest running
    /// here.
    public func run(to address: ChannelAddress) -> SourceReport { session.run(to: address) }

    /// Lets the guest move as soon as the destination is ready.
    public func startPostcopy() { session.startPostcopy() }

    /// Ends a migration whose guest has not moved yet; later it has no effect.
    public func cancel() { session.cancel() }

    /// Ends the link once the guest has moved, until `recover`; see `SourceSession.pause`.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Tries a paused migration's link again, now; see `SourceSession.recover`.
    @discardableResult
    public func recover(at addresses: [ChannelAddress] = []) -> Bool {
        session.recover(at: addresses)
    }

    /// Gives a paused migration up: `run` returns.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }

    /// Says that nobody needs the content of whole target pages of a block any more; see
    /// `SourceSession.hint`. The guest must not write them before this returns.
    /// - Throws: what the tracker's kernel call answers; then nothing was left out.
    public func hint(free pages: Range<Int>, ofBlock block: Int) throws(Errno) {
        try session.hint(free: pages, ofBlock: block)
    }

    public var progress: SourceProgress { session.progress }
}

/// The destination of one migration: takes a guest over and pulls its memory.
public struct MigrationDestination: Sendable {
    private let session: DestinationSession

    /// - Throws: `ConfigurationError`; `UserfaultfdRefusal`, which names what this host refused and the
    ///   remedy; or `Errno`.
    public init(guest: any Guest, options: MigrationOptions = MigrationOptions()) throws {
        session = try DestinationSession(guest: guest, options: options)
    }

    /// Waits for a source, takes the guest over and runs it. Blocking: until every page is placed and
    /// huge pages are healed, if they are to be; or until the migration has ended otherwise. A guest
    /// that was paused waits in its missing pages until the process ends or `abandonGuest` is called,
    /// whether or not this value is kept.
    public func run(on listener: consuming Listener) -> DestinationReport {
        session.run(on: listener)
    }

    /// Ends a wait for a source, a migration that has not yet moved the guest, or the healing of huge
    /// pages.
    public func cancel() { session.cancel() }

    /// Ends the link once the guest has moved, until `recover`; see `DestinationSession.pause`.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Lets the source of a paused migration in again; see `DestinationSession.recover`.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool {
        session.recover(on: listener)
    }

    /// Gives a paused guest up; see `DestinationSession.abandon`.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }

    /// Gives up a paused guest that is thrown away: its threads go on and read zeros where pages are
    /// missing, so that they can be ended.
    public func abandonGuest() { session.abandonGuest() }

    public var progress: DestinationProgress { session.progress }
}
