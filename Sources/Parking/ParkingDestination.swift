public import Postcopy

/// Takes a machine in and keeps it: memory that arrives as for any guest, of which nobody but readers
/// touches anything.
public final class ParkingDestination: Sendable {
    private let session: DestinationSession
    private let readers: PageReaders?
    private let keep: @Sendable () -> Void

    /// - Parameter readers: threads that read its memory from the moment it would run; ended here.
    /// - Parameter keep: makes the machine safe when every page is here. Blocking: until it is, since
    ///   whoever had it is then told to forget it.
    /// - Throws: `ConfigurationError`, `UserfaultfdRefusal`, or `Errno` when no descriptor is left.
    public init(
        of machine: ParkedMachine, options: MigrationOptions, readers: PageReaders? = nil,
        keep: @escaping @Sendable () -> Void
    ) throws {
        self.readers = readers
        self.keep = keep
        session = try DestinationSession(
            guest: ArrivingMachine(machine, readers: readers, whenHere: keep), options: options)
    }

    public var progress: DestinationProgress { session.progress }

    /// Ends it where the machine has not left its host; afterwards it has no effect.
    public func cancel() { session.cancel() }

    /// Ends the link once the machine has moved, until `recover`; see `DestinationSession.pause`.
    @discardableResult
    public func pause() -> Bool { session.pause() }

    /// Lets the source of a paused migration in again; see `DestinationSession.recover`.
    @discardableResult
    public func recover(on listener: consuming Listener? = nil) -> Bool {
        session.recover(on: listener)
    }

    /// Gives a paused machine up; see `DestinationSession.abandon`.
    @discardableResult
    public func abandon() -> Bool { session.abandon() }

    /// Takes the machine in. Blocking: until it is kept, or its way has ended otherwise.
    public func run(on stream: consuming IncomingStream) -> DestinationReport {
        let report = session.run(on: stream)
        if report.status == .postcopyPaused {
            // The link broke at the very end: the host that the machine comes from has it as well.
            if report.isPausedWithAllPages { keep() }
            session.abandonGuest()
        }
        readers?.finish()
        return report
    }
}
