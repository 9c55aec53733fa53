/// Where a guest is once its migration has ended, as the side that says it knows.
public enum GuestPlace: Equatable, Sendable, CustomStringConvertible {
    /// On this side. At a destination that is paused, its threads wait where pages are missing.
    case here
    /// On the other side.
    case there
    /// On the other side or nowhere: nobody may start it here.
    case unknown
    /// It ran here, and was given up with pages missing.
    case lost

    /// In words that end a line.
    public var description: String {
        switch self {
        case .here: "the guest is here"
        case .there: "the guest is at the other side"
        case .unknown: "the guest may run at the other side and must not be started here"
        case .lost: "the guest was given up"
        }
    }
}

/// How a migration ended that did not complete.
public struct MigrationFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// `failed`, `cancelled`, or a paused one that nobody recovers.
    public let status: MigrationStatus
    /// What went wrong and the remedy, in one line.
    public let problem: String
    /// Where the guest is now.
    public let guest: GuestPlace

    /// All three in one line.
    public var description: String { "\(status): \(problem); \(guest)" }

    init(_ status: MigrationStatus, _ problem: String?, _ guest: GuestPlace) {
        self.status = status
        self.problem = problem ?? "no reason is known"
        self.guest = guest
    }
}

extension SourceReport {
    /// Where the guest is.
    public var guest: GuestPlace {
        if status == .completed { return .there }
        if guestRunsHere { return .here }
        return committedAtNanoseconds == nil ? .unknown : .there
    }

    /// The report of a migration that completed.
    /// - Throws: how it ended otherwise.
    @discardableResult
    public func get() throws(MigrationFailure) -> SourceReport {
        guard status == .completed else { throw MigrationFailure(status, problem, guest) }
        return self
    }
}

extension DestinationReport {
    /// Where the guest is.
    public var guest: GuestPlace {
        if isAbandoned { return guestRunsHere ? .lost : .there }
        if guestRunsHere { return .here }
        return status == .postcopyPaused ? .unknown : .there
    }

    /// The report of a migration that completed.
    /// - Throws: how it ended otherwise.
    @discardableResult
    public func get() throws(MigrationFailure) -> DestinationReport {
        guard status == .completed else { throw MigrationFailure(status, problem, guest) }
        return self
    }
}
