/// What either side prints while it migrates: the names of QEMU's `MigrationStatus`.
///
/// Source: `MigrationStatus` of QEMU (`qapi/migration.json`).
public enum MigrationStatus: String, CaseIterable, Sendable, CustomStringConvertible {
    /// Nothing was asked for yet.
    case none
    /// The channel is open and the sides agree on what they are.
    case setup
    /// The guest runs at the source.
    case active
    /// The guest is stopped at the source and may still go back.
    case device
    /// The guest's devices travel; who runs the guest is not yet agreed.
    case postcopyDevice = "postcopy-device"
    /// The guest lives at the destination and pages are owed to it.
    case postcopyActive = "postcopy-active"
    /// The link is down and the guest waits for a new one.
    case postcopyPaused = "postcopy-paused"
    /// A new link is there and the sides agree on what is still owed.
    case postcopyRecover = "postcopy-recover"
    /// Every page is at the destination.
    case completed
    /// The guest stays at the source, because something went wrong.
    case failed
    /// The guest stays at the source, because somebody asked for it.
    case cancelled

    public var description: String { rawValue }
}
