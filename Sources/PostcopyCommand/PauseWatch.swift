internal import Postcopy

/// What people are told of a link that broke: each break and each return once, who is waited for, and
/// from time to time that it still lasts.
struct PauseWatch {
    /// So that the one who started this process can tell these lines from its progress.
    static let prefix = "link: "
    static let reminderNanoseconds: UInt64 = 30_000_000_000

    let mode: RecoveryOptions.Mode
    /// How this process is named behind `postcopy recover`.
    let name: String
    /// Whether a QEMU is expected at the other end, which comes back when somebody tells it to.
    let isSourceQEMU: Bool
    /// Breaks that were told of, and those up to which a return was: of all that there were, since
    /// `RecoveryProgress.breaks` keeps only some.
    private var told = 0
    private var resumed = 0
    private var isWaitTold = false
    private var isFarewellTold = false
    private var toldAt: UInt64 = 0

    init(mode: RecoveryOptions.Mode, name: String, isSourceQEMU: Bool = false) {
        self.mode = mode
        self.name = name
        self.isSourceQEMU = isSourceQEMU
    }

    /// What is to be said now.
    mutating func lines(_ standing: Standing, at now: UInt64) -> [String] {
        guard mode != .none else { return [] }
        var lines: [String] = []
        let breaks = standing.recovery.breaks
        // Those that are not kept are missing behind the first.
        let missing = standing.recovery.breakCount - breaks.count
        for (place, broken) in breaks.enumerated() {
            let number = place == 0 ? 0 : missing + place
            if number >= told {
                lines.append(
                    "broke: \(broken.problem); \(Self.debt(standing)); \(prospect(standing))")
                told = number + 1
                // It may have come back and broken again between two looks.
                isWaitTold = false
            }
            if number >= resumed, let line = Self.back(broken) {
                lines.append(line)
                resumed = number + 1
            }
        }
        if standing.isPaused, standing.recovery.waitsForSomebody {
            if !isWaitTold {
                lines.append("waits for somebody: \(choices(standing.side))\(refusal(standing))")
            }
            isWaitTold = true
        } else {
            isWaitTold = false
        }
        if let farewell = standing.recovery.farewell, !isFarewellTold {
            lines.append(Self.text(farewell, at: now))
            isFarewellTold = true
        }
        let pausedAt = standing.isPaused ? breaks.last?.pausedAtNanoseconds : nil
        if let pausedAt, lines.isEmpty, now >= toldAt + Self.reminderNanoseconds {
            lines.append(reminder(standing, downNanoseconds: now - min(now, pausedAt)))
        }
        if !lines.isEmpty { toldAt = now }
        return lines.map { Self.prefix + $0 }
    }

    private func reminder(_ standing: Standing, downNanoseconds: UInt64) -> String {
        let ways =
            standing.recovery.waitsForSomebody
            ? "waits for somebody: \(choices(standing.side))" : prospect(standing)
        let down = Readable.time(downNanoseconds)
        return "down for \(down); \(Self.debt(standing)); \(ways)\(refusal(standing))"
    }

    private static func text(_ farewell: Farewell, at now: UInt64) -> String {
        let left = farewell.untilNanoseconds - min(now, farewell.untilNanoseconds)
        return
            "failed: \(farewell.problem); the guest never ran here, which its source is told should "
            + "it come back within \(Readable.time(left)); interrupt to end now"
    }

    private static func back(_ broken: LinkBreak) -> String? {
        guard let resumedAt = broken.resumedAtNanoseconds else { return nil }
        let down = Readable.time(resumedAt - min(resumedAt, broken.pausedAtNanoseconds))
        let tries = broken.attempts > 1 ? ", \(broken.attempts) attempts" : ""
        return "back after \(down)\(tries)"
    }

    /// What is not at the destination, as far as this side knows it.
    static func debt(_ standing: Standing) -> String {
        if standing.side == .source {
            return "at least \(Readable.bytes(standing.owedBytes)) are only at the source"
        }
        let missing = standing.recovery.missing
        guard !missing.isEmpty else { return "every page is at the destination" }
        return (MissingFigures.list(missing) ?? []).map(\.text).joined(separator: "; ")
    }

    /// What happens next where nobody does anything.
    private func prospect(_ standing: Standing) -> String {
        if standing.recovery.waitsForSomebody { return "nothing is tried until somebody asks" }
        return standing.side == .source
            ? "the source tries to come back"
            : "the source is waited for, and 'postcopy abandon \(name)' gives the guest up"
    }

    private func choices(_ side: Standing.Side) -> String {
        let giveUp = "'postcopy abandon \(name)' gives the guest up"
        if isSourceQEMU, mode == .automatic {
            return "'migrate' with 'resume' at the QEMU brings it back; 'postcopy recover \(name)' "
                + "is for after a 'postcopy pause' (with a URI behind it to listen there); \(giveUp)"
        }
        let again =
            side == .source
            ? "'postcopy recover \(name)' tries again (with the URI behind it where the destination "
                + "has moved)"
            : "'postcopy recover \(name)' lets the source in again (with a URI behind it to listen "
                + "there)"
        return "\(again), \(giveUp)"
    }

    private func refusal(_ standing: Standing) -> String {
        standing.recovery.refusal.map { "; last attempt: \($0)" } ?? ""
    }
}
