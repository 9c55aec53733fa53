/// Where a destination stands: what the source may say next, and whether the guest runs here.
///
/// `loaded` is the commit: up to it any trouble ends in `failed`, and the guest never ran here; from
/// it on any trouble ends in `paused`, and SHUT never carries an error. Where the source is able to come
/// back, a lost link pauses from LISTEN on: the package is whole, and nothing of it need be repeated.
///
/// Source: `PostcopyState` of QEMU (`migration/postcopy-ram.h`) and `loadvm_postcopy_handle_*`
/// (`migration/savevm.c`).
public enum DestinationPhase: Hashable, Sendable {
    /// Nothing has come yet.
    case none
    /// The head is accepted.
    case setup(returnPathOpen: Bool)
    /// Page sizes agree and all blocks are empty; the block list may still be due.
    case advised(blocksAgreed: Bool)
    /// Ranges sent before and dirtied since are being dropped.
    case discarding(ranges: Int)
    /// Missing pages fault and the devices are being loaded.
    case listening(StreamProgress)
    /// The devices are loaded and this side will run the guest: it says so to PING 0x42.
    case loaded(StreamProgress)
    /// The guest runs here and the stream goes on.
    case running(allPagesPlaced: Bool)
    /// The guest runs here and the stream has ended, yet pages are owed: they are on the urgent
    /// channel, or the source miscounted.
    case streamEnded
    /// Every page is here, and the source was told.
    case completed
    /// The link is down. A guest that did not start yet waits for the source's RESUME.
    case paused(Halt)
    /// A new link is there, the received bitmaps are being told, and RESUME is due.
    case recovering(Halt)
    /// The guest never ran here.
    case failed(DestinationFailure)

    /// How far a destination had come when the link went.
    public enum Halt: Hashable, Sendable {
        /// The devices are being loaded, which may need pages.
        case loading
        /// The devices are loaded; the guest starts once the source has resumed.
        case loaded
        /// The guest runs here.
        case running
    }

    /// What the stream has brought while the devices were being loaded.
    public enum StreamProgress: Hashable, Sendable {
        /// More is to come.
        case arriving
        /// The stream has ended and pages are owed.
        case ended
        /// No page is owed and the stream has not ended.
        case placed
        /// The stream has ended, and every page is placed.
        case endedAndPlaced
    }

    /// QEMU's name for the phase.
    public var status: MigrationStatus {
        switch self {
        case .none: .none
        case .setup: .setup
        case .advised, .discarding: .active
        case .listening, .loaded: .postcopyDevice
        case .running, .streamEnded: .postcopyActive
        case .completed: .completed
        case .paused: .postcopyPaused
        case .recovering: .postcopyRecover
        case .failed: .failed
        }
    }

    /// Whether the guest may run at this side.
    public var mayRunGuestHere: Bool {
        switch self {
        case .running, .streamEnded, .completed, .paused(.running), .recovering(.running): true
        case .none, .setup, .advised, .discarding, .listening, .loaded, .paused, .recovering,
            .failed:
            false
        }
    }

    /// The phase without what it owns, to be printed.
    public var name: DestinationPhaseName {
        switch self {
        case .none: .none
        case .setup: .setup
        case .advised: .advised
        case .discarding: .discarding
        case .listening: .listening
        case .loaded: .loaded
        case .running: .running
        case .streamEnded: .streamEnded
        case .completed: .completed
        case .paused: .paused
        case .recovering: .recovering
        case .failed: .failed
        }
    }
}

/// The names of a destination's phases.
public enum DestinationPhaseName: String, CaseIterable, Sendable, CustomStringConvertible {
    /// Nothing has come yet.
    case none, setup, advised, discarding, listening, loaded, running
    /// The stream has ended, and pages are missing.
    case streamEnded = "stream ended"
    /// Every page is here.
    case completed, paused, recovering, failed

    public var description: String { rawValue }
}

extension DestinationPhase.StreamProgress {
    /// The progress once the stream has ended too; `nil` when it had ended before.
    var withEnd: Self? {
        switch self {
        case .arriving: .ended
        case .placed: .endedAndPlaced
        case .ended, .endedAndPlaced: nil
        }
    }

    /// The progress once every page is placed too.
    var withAllPages: Self {
        switch self {
        case .arriving, .placed: .placed
        case .ended, .endedAndPlaced: .endedAndPlaced
        }
    }
}

extension DestinationPhase {
    /// Whether the source still has the guest, and may say that it keeps it.
    public var isBeforeSwitch: Bool {
        switch self {
        case .none, .setup, .advised, .discarding: true
        case .listening, .loaded, .running, .streamEnded, .completed, .paused, .recovering,
            .failed:
            false
        }
    }
}
