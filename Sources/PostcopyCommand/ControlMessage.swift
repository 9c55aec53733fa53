internal import Foundation
internal import Postcopy

/// What somebody asks of a running migration: one JSON object in one line.
struct ControlRequest: JSONReport, Equatable {
    enum Command: String, CaseIterable {
        case status
        case pause
        case recover
        case abandon
        case limit
    }

    var command: String
    /// For `recover`: where the destination is now; at a destination, where it shall listen.
    var uri: String?
    /// The same where a destination may be reached at several places.
    var uris: [String]?
    /// For `limit`.
    var limits: LimitChange?

    init(_ command: Command, uris: [String] = [], limits: LimitChange? = nil) {
        self.command = command.rawValue
        self.uris = uris.isEmpty ? nil : uris
        self.limits = limits
    }
}

/// What a running migration answers: in one line as well.
struct ControlAnswer: JSONReport, Equatable {
    var ok: Bool
    /// Why nothing was done; only where `ok` is false.
    var error: String?
    var pid: Int32?
    /// The subcommand that it runs, and which side it is.
    var command: String?
    var side: String?
    var status: String?
    /// Bytes that the source still has to send.
    var owedBytes: UInt64?
    /// What is missing at the destination.
    var missing: [MissingFigures]?
    /// The newest breaks of the link, and how many there were.
    var breaks: [BreakFigures]?
    var breakCount: Int?
    var lastRefusal: String?
    /// What a source may take.
    var limits: LimitFigures?
    /// Where a destination waits for its source, with the port that the system chose.
    var listensAt: String?
    var waitsForSomebody: Bool?
    /// The process of the other side, where this one started it, and where that is asked.
    var destinationPid: Int32?
    var destinationControl: String?
    /// It was started by the source, which answers for both.
    var isChild: Bool?

    static func failed(_ reason: String) -> ControlAnswer {
        ControlAnswer(ok: false, error: reason)
    }

    /// So that an answer stays a line that people can read.
    static let breaksMax = 8
}

/// Where a side stands, for those who ask and those who are told.
struct Standing: Sendable {
    enum Side: String, CaseIterable, Sendable {
        case source
        case destination
    }

    var side: Side
    var status: MigrationStatus
    var recovery: RecoveryProgress
    /// Source: what it has not sent, in bytes. Destination: what is missing.
    var owedBytes: UInt64

    init(side: Side, status: MigrationStatus, recovery: RecoveryProgress, owedBytes: UInt64) {
        self.side = side
        self.status = status
        self.recovery = recovery
        self.owedBytes = owedBytes
    }

    init(_ source: SourceProgress) {
        self.init(
            side: .source, status: source.status, recovery: source.recovery,
            owedBytes: UInt64(source.remainingPages) * PageSize.target.bytes)
    }

    init(_ destination: DestinationProgress) {
        self.init(
            side: .destination, status: destination.status, recovery: destination.recovery,
            owedBytes: destination.recovery.missing.reduce(0) { $0 + $1.bytes })
    }

    var isPaused: Bool { status == .postcopyPaused || status == .postcopyRecover }
}

extension ControlAnswer {
    mutating func take(_ standing: Standing) {
        let recovery = standing.recovery
        side = standing.side.rawValue
        status = standing.status.rawValue
        owedBytes = standing.side == .source ? standing.owedBytes : nil
        missing = MissingFigures.list(recovery.missing)
        breakCount = recovery.breakCount
        breaks = BreakFigures.list(Array(recovery.breaks.suffix(Self.breaksMax)))
        lastRefusal = recovery.refusal
        waitsForSomebody = recovery.waitsForSomebody
    }
}
