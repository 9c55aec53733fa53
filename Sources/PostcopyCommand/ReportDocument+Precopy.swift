internal import Postcopy

/// Why the workload moved when it did, and the figures at that moment.
struct SwitchoverFigures: Codable, Equatable {
    var rule: String
    /// `postcopy`, or `precopy` where the rest was sent while the workload was stopped.
    var ending: String
    var reason: String
    /// Since the first page was sent.
    var atNs: UInt64
    /// As of the sync before.
    var remainingBytes: UInt64
    /// Once the workload had stopped.
    var owedBytes: UInt64
    var bandwidthBytesPerSecond: UInt64
    var dirtyBytesPerSecond: UInt64
    /// The last sync of the dirty bitmap, part of the downtime.
    var finalSyncNs: UInt64
}

/// A pass through memory while the workload ran at the source.
struct RoundFigures: Codable, Equatable {
    var number: UInt64
    var durationNs: UInt64
    var pages: UInt64
    var bytes: UInt64
    /// Pages that the sync at its end found dirty.
    var dirtied: UInt64
}

/// What the destination was told to drop before the switch.
struct DiscardFigures: Codable, Equatable {
    var ranges: Int
    var commands: Int
    var bytes: Int
    /// Target pages.
    var pages: Int
}

extension ReportDocument {
    /// Adds what a source did before the switch; QEMU's names where it has them.
    mutating func add(_ report: SourceReport) {
        if report.discards.ranges > 0 {
            discards = DiscardFigures(
                ranges: report.discards.ranges, commands: report.discards.commands,
                bytes: report.discards.bytes, pages: report.discards.targetPages)
        }
        guard let precopy = report.precopy else { return }
        let progress = report.progress.precopy
        ram.dirtySyncCount = precopy.roundCount
        ram.dirtyPagesRate = progress?.dirtyPagesPerSecond
        ram.pagesPerSecond = progress?.pagesPerSecond
        ram.mbps = progress.map { Double($0.bytesPerSecond) * 8 / 1e6 }
        expectedDowntimeNs = progress?.expectedDowntimeNanoseconds
        cpuThrottlePercentage = precopy.throttlePercent == 0 ? nil : precopy.throttlePercent
        rounds = precopy.rounds.map { round in
            RoundFigures(
                number: round.number, durationNs: round.durationNanoseconds,
                pages: round.sentPages, bytes: round.sentBytes, dirtied: round.dirtiedPages)
        }
        switchover = precopy.decision.map { decision in
            SwitchoverFigures(
                rule: decision.rule.rawValue,
                ending: precopy.restWasSent ? "precopy" : "postcopy",
                reason: decision.description, atNs: decision.observation.elapsedNanoseconds,
                remainingBytes: decision.observation.remainingBytes,
                owedBytes: UInt64(precopy.owedPages) * PageSize.target.bytes,
                bandwidthBytesPerSecond: decision.observation.bandwidthBytesPerSecond,
                dirtyBytesPerSecond: decision.observation.dirtyBytesPerSecond,
                finalSyncNs: precopy.finalSyncNanoseconds)
        }
    }
}

extension SummaryTable {
    var switchoverPieces: [String?] {
        guard let switchover = document.switchover else { return [] }
        let grew = switchover.ending == "postcopy" && switchover.rule == "fits-downtime"
        // At the places where a line may be broken.
        let reason = switchover.reason.replacing("; ", with: ", ").split(separator: ", ")
        return reason.map(String.init) + [
            grew ? "more was dirtied since" : nil,
            switchover.ending == "postcopy" ? "owed \(Readable.bytes(switchover.owedBytes))" : nil,
        ]
    }

    /// The first round, which goes through all memory, and the latest.
    var roundPieces: [String?] {
        guard let rounds = document.rounds, let first = rounds.first else { return [] }
        let count = document.ram.dirtySyncCount ?? rounds.count
        let latest = rounds.dropFirst().suffix(Self.roundsShown - 1)
        return ["\(count) in all", Self.text(first), count > latest.count + 1 ? "..." : nil]
            + latest.map(Self.text)
    }

    private static func text(_ round: RoundFigures) -> String {
        "#\(round.number) \(round.pages) pages in \(Readable.time(round.durationNs)) "
            + "(\(round.dirtied) dirtied)"
    }

    /// With the first, two lines of a terminal.
    private static var roundsShown: Int { 4 }

    var discardPieces: [String?] {
        guard let discards = document.discards else { return [] }
        return [
            "\(discards.pages) pages", Readable.count(UInt64(discards.ranges), "range", "ranges"),
            Readable.count(UInt64(discards.commands), "command", "commands"),
        ]
    }

    var precopyPieces: [String?] {
        let ram = document.ram
        return [
            ram.mbps.map { Readable.rate($0 * 1e6 / 8) },
            ram.dirtyPagesRate.map { "\($0) pages/s dirtied" },
            document.cpuThrottlePercentage.map { "vCPUs throttled up to \($0) %" },
        ]
    }
}
