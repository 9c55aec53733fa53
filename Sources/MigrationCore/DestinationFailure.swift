/// Why a destination gave up. The guest never ran here: each of these comes before the commit.
public enum DestinationFailure: Hashable, Sendable, CustomStringConvertible {
    case linkLost
    case deadlinePassed
    case peerMisbehaved
    case deviceRefused
    case givenUp
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
    public let command: Command
    /// The phase in which it came.
    public let phase: DestinationPhaseName

    public init(_ command: Command, in phase: DestinationPhaseName) {
        self.command = command
        self.phase = phase
    }

    /// What a source can order, by the names of the wire.
    public enum Command: String, CaseIterable, Sendable {
        case head = "the head"
        case openReturnPath = "OPEN_RETURN_PATH"
        case advise = "ADVISE"
        case blockList = "the block list"
        case discard = "DISCARD"
        case listen = "LISTEN"
        case run = "RUN"
        case endOfStream = "the end of the stream"
        case receivedBitmap = "RECV_BITMAP"
        case resume = "RESUME"
    }

    public var description: String { "\(command.rawValue) came in phase '\(phase)'" }
}
