/// A callback that is told how a migration goes, until the migration has ended or `cancel`.
public struct MigrationObservation: Sendable {
    let cancelling: @Sendable () -> Void

    /// Has it told nothing more. A call under way goes on; from inside the callback it is the last.
    public func cancel() { cancelling() }
}
