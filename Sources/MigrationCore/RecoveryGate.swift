public import StreamWire

/// Destination: who may come back. The source shows the token that it was given on the first link, and
/// counts its attempts, so that a stranger, an old source and an old connection are told apart.
public struct RecoveryGate: Hashable, Sendable {
    /// By which the migration's own source is known.
    public let token: MigrationToken
    /// The attempt of the link that was let in last; the first link is 0.
    public private(set) var attempt: UInt32 = 0

    /// A gate that nobody has passed yet.
    public init(token: MigrationToken) { self.token = token }

    /// What to do with a connection that says who it is.
    public enum Verdict: Hashable, Sendable {
        /// Take it as the new link, and answer.
        case welcome(RecoveryAnswer)
        /// It is the source, whose old link is up as far as this side knows: end that one, then ask
        /// again.
        case endOldLink
        /// Answer and close.
        case refuse(RecoveryAnswer)
    }

    /// Judges a new main channel, and remembers its attempt where it is let in: it is taken at once.
    public mutating func judge(_ hello: ChannelHello, in phase: DestinationPhase) -> Verdict {
        let verdict = verdict(on: hello, in: phase)
        if case .welcome = verdict { attempt = hello.attempt }
        return verdict
    }

    /// What `judge` would say. Remembers nothing: for a side that still has an old link to end, and
    /// would turn the same hello away when it judges it again.
    public func verdict(on hello: ChannelHello, in phase: DestinationPhase) -> Verdict {
        guard hello.token == token, hello.channel == .main else { return .refuse(.stranger) }
        guard hello.attempt > attempt else { return .refuse(.busy) }
        return switch phase {
        case .paused(let halt): .welcome(halt == .running ? .running : .waiting)
        case .completed: .refuse(.completed)
        case .failed: .refuse(.neverRan)
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .recovering:
            .endOldLink
        }
    }

    /// Whether an urgent channel belongs to the link that is up.
    public func admits(urgent hello: ChannelHello) -> Bool {
        hello.token == token && hello.channel == .urgent && hello.attempt == attempt
    }
}
