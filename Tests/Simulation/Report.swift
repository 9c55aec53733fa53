/// The bounds of the product's mailboxes and door as the simulator has them, under the product's names.
public enum Bounds {
    public static let source = ["controlCapacity": SourceSide.mailMax]
    public static let destination = [
        "outboxCapacity": DestinationSide.outboxBase, "controlCapacity": DestinationSide.mailMax,
        "noticeCapacity": DestinationSide.noticesMax,
    ]
    public static let door = ["candidatesMax": DestinationControl.heldMax]
}

/// What a person reads about a campaign.
public enum Report {
    public static func summary(_ tally: Tally, seconds: Double) -> [String] {
        let rate = seconds > 0 ? Int(Double(tally.migrations) / seconds) : 0
        let faults = tally.faults.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        return [
            "migrations        \(tally.migrations) in \(tenths(seconds)) s, \(rate) each second",
            "completed         \(tally.completed); stayed at the source \(tally.stayed)",
            "links broken      \(tally.breaks); recovered \(tally.recoveries)",
            "inside a recovery \(tally.insideRecovery) faults",
            "late hellos       \(tally.lateHellos)",
            "without a fault   \(tally.withoutFault)",
            "faults            \(faults.joined(separator: ", "))",
        ]
    }

    public static func failure(_ outcome: Simulator.Outcome, last: Int = 120) -> [String] {
        guard let violation = outcome.violation else { return [] }
        let limits = outcome.limits
        return outcome.trace.suffix(last)
            + [
                "",
                "seed \(outcome.seed) breaks the law: \(violation.law)",
                "  \(violation.detail)",
                "repeat it: swift run -c release postcopy-simulate --seed \(outcome.seed) "
                    + "--blocks \(limits.blocks) --pages \(limits.pages) "
                    + "--vcpus \(limits.vcpus) --faults \(limits.faults)",
            ]
    }

    static func tenths(_ seconds: Double) -> String {
        let tenths = Int(seconds * 10)
        return "\(tenths / 10).\(tenths % 10)"
    }
}
