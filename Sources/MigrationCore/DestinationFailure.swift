/// Why a destination gave up. The guest never ran here: each of these comes before the commit.
public enum DestinationFailure: Hashable, Sendable, CustomStringConvertible {
    /// The link broke before the guest was committed.
    case linkLost
    /// The source kept silent for too long.
    case deadlinePassed
    /// The source broke the protocol.
    case peerMisbehaved
    /// The guest did not take its device state.
    case deviceRefused
    /// Somebody gave it up while it was paused.
    case givenUp
    /// A command came in a phase that has no place for it.
    case outOfOrder(CommandOutOfOrder)

    public var description: String {
        switch self {
        case .linkLost: "the link was lost; the guest never ran here"
        case .deadlinePassed: "the source kept silent; the guest never ran here"
        case .peerMisbehaved: "the source broke the protocol; the guest never ran here"
        case .deviceRefused: "the device state was refused; the guest never ran here"
        case .givenUp: "it was given up; the guest never ran here"
        case .outOfOrder(let error): "\(error); the guest never ran here"
        }
    }
}

/// A command or section that came when the source may not send it.
public struct CommandOutOfOrder: Error, Hashable, Sendable, CustomStringConvertible {
    /// What came.
    public let command: Command
    /// The phase in which it came.
    public let phase: DestinationPhaseName

    /// A command, and the phase in which it came.
    public init(_ command: Command, in phase: DestinationPhaseName) {
        self.command = command
        self.phase = phase
    }

    /// What a source can order, by the names of the wire.
    public enum Command: String, CaseIterable, Sendable {
        /// The head of the stream.
        case head = "the head"
        /// `OPEN_RETURN_PATH`.
        case openReturnPath = "OPEN_RETURN_PATH"
        /// `POSTCOPY_ADVISE`.
        case advise = "ADVISE"
        /// The list of RAM blocks.
        case blockList = "the block list"
        /// `POSTCOPY_RAM_DISCARD`.
        case discard = "DISCARD"
        /// `POSTCOPY_LISTEN`.
        case listen = "LISTEN"
        /// `POSTCOPY_RUN`.
        case run = "RUN"
        /// The end of the stream.
        case endOfStream = "the end of the stream"
        /// `RECV_BITMAP`.
        case receivedBitmap = "RECV_BITMAP"
        /// `POSTCOPY_RESUME`.
        case resume = "RESUME"
    }

    public var description: String { "\(command.rawValue) came in phase '\(phase)'" }
}
