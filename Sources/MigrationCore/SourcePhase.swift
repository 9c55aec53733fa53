/// Where a source stands: who may run the guest, and what is due next.
///
/// One rule shapes it: the package's first byte is the point of no return. Before it every trouble
/// leaves the guest here; from it on the destination may be running the guest, so that this side
/// runs it again only on the destination's own word that it never started.
///
/// Source: `MigrationState.state` and `migration_thread` of QEMU (`migration/migration.c`). QEMU
/// 10.2 and later run the guest again when the link fails in `postcopy-device`; this source does
/// not, because the destination's commit may be lost with the link.
public enum SourcePhase: Hashable, Sendable {
    /// Nothing was begun.
    case none
    /// The head is written and PONG 1 is awaited; the user may have asked for the switch already.
    case setup(startRequested: Bool)
    /// The return path answers; the guest runs and waits for the switch.
    case active
    /// The guest was asked to stop.
    case stopping(Ending)
    /// The guest is stopped and the discards are being written: the last point of return.
    case device
    /// The package is being written; a quick destination may have committed already.
    case sendingPackage(committed: Bool)
    /// The package is written, pages flow, and the destination has not committed.
    case postcopyDevice(allPagesSent: Bool)
    /// The guest lives at the destination and pages are still owed.
    case postcopyActive
    /// The end of the stream is written and SHUT is awaited.
    case completing
    /// Every page is at the destination, which has said so.
    case completed
    /// The link is down; the guest runs at the destination or nowhere.
    case paused(PausePoint)
    /// A new link is there, and the destination tells what it has received.
    case recovering(PausePoint)
    /// The guest runs here again.
    case failed(SourceFailure)
    /// The guest runs here, as the user wished.
    case cancelled

    /// How the guest's memory gets to the destination once the guest is stopped.
    public enum Ending: Hashable, Sendable {
        /// What is owed is discarded there and follows behind the guest.
        case postcopy
        /// The rest fits into the downtime: it is sent while the guest is stopped.
        case precopy
    }

    /// How far a source had come when it paused; what it heard since is added.
    public enum PausePoint: Hashable, Sendable {
        /// The destination has not said that it runs the guest.
        case beforeCommit
        /// It has said so.
        case afterCommit
        /// Every page and the end of the stream were written.
        case afterEnd
    }

    /// QEMU's name for the phase.
    public var status: MigrationStatus {
        switch self {
        case .none: .none
        case .setup: .setup
        case .active, .stopping: .active
        case .device: .device
        case .sendingPackage, .postcopyDevice: .postcopyDevice
        case .postcopyActive, .completing: .postcopyActive
        case .completed: .completed
        case .paused: .postcopyPaused
        case .recovering: .postcopyRecover
        case .failed: .failed
        case .cancelled: .cancelled
        }
    }

    /// Whether the guest may run at this side.
    public var mayRunGuestHere: Bool {
        switch self {
        case .none, .setup, .active, .stopping, .failed, .cancelled: true
        case .device, .sendingPackage, .postcopyDevice, .postcopyActive, .completing, .completed,
            .paused, .recovering:
            false
        }
    }
}

/// Why the guest runs at the source again.
public enum SourceFailure: Hashable, Sendable, CustomStringConvertible {
    /// The link broke before the package.
    case linkLost
    /// Something took too long before the package.
    case deadlinePassed
    /// The destination broke the protocol.
    case peerMisbehaved
    /// Writes of the running guest can no longer be told.
    case trackingFailed
    /// The destination ended before it committed, with its error number.
    case endedByDestination(error: UInt32)

    public var description: String {
        switch self {
        case .linkLost: "the link was lost before the guest moved"
        case .deadlinePassed: "the destination kept silent before the guest moved"
        case .peerMisbehaved: "the destination broke the protocol before the guest moved"
        case .trackingFailed: "the guest's writes could not be tracked"
        case .endedByDestination(let error):
            "the destination ended with error \(error) and did not start the guest"
        }
    }
}
