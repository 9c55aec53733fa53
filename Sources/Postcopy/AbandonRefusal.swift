/// Why a guest is not given up: another than a paused one would lose memory without a word.
public enum AbandonRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    /// Its migration has not ended, or not begun: pages may still come.
    case notEnded
    /// It has every page, never ran here, or was given up before.
    case notPaused

    /// What is wrong and the remedy, in one line.
    public var description: String {
        switch self {
        case .notEnded:
            "the migration has not ended, and pages may still come: end it first (abandon where it is "
                + "paused, cancel before the guest has moved) and wait for that"
        case .notPaused:
            "no guest waits for missing pages here: it has all of them, never ran here, or was given up "
                + "before"
        }
    }
}
