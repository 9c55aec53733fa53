/// Parts of a whole as people read them: "62 %", "9.5 %", "under 0.1 %".
enum Percent {
    static func text(_ part: UInt64, of whole: UInt64) -> String {
        text(share: Double(part) / Double(max(1, whole)))
    }

    /// Empty where there is no whole.
    static func text(share: Double) -> String {
        // More than a million times the whole is none either.
        guard share.isFinite, share >= 0, share < 1e6 else { return "" }
        let perMille = share * 1_000
        if share > 0, perMille < 0.5 { return "under 0.1 %" }
        let rounded = UInt64(perMille.rounded())
        return rounded < 100 ? "\(rounded / 10).\(rounded % 10) %" : "\((rounded + 5) / 10) %"
    }
}
