/// How a vCPU chooses the page of its next access, inside its own share of the hot set.
public enum AccessPattern: String, CaseIterable, Sendable {
    /// One page after the other, from the start again at the end.
    case sequential
    /// A fixed number of pages further on each time, which reaches every page of the share.
    case stride
    /// Every page is as likely as every other.
    case uniform
    /// The page of rank r is chosen with a weight of r^-0.99; ranks are scattered over the share.
    case zipf
    /// The next page depends on the value just read, so a wrong page sends the vCPU elsewhere.
    case chase
    /// Any page, but only `idleStepsPerSecond` times a second, whatever the rate.
    case idle

    /// An idle guest still takes its timer tick, which touches a page or two.
    public static let idleStepsPerSecond: UInt64 = 100
}

/// What memory holds before the first step.
public enum InitialFill: String, CaseIterable, Sendable {
    /// Every word is pseudo-random: incompressible.
    case random
    /// Printable ASCII words of eight characters: compressible.
    case text
    /// All bytes are zero.
    case zero
    /// Each page is one of the three, chosen by the page's hash.
    case mixed
}

extension AccessPattern {
    /// The number in the saved state: never renumber, only add.
    var code: UInt8 {
        switch self {
        case .sequential: 0
        case .stride: 1
        case .uniform: 2
        case .zipf: 3
        case .chase: 4
        case .idle: 5
        }
    }

    init?(code: UInt8) {
        guard let pattern = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = pattern
    }
}

extension InitialFill {
    /// The number in the saved state: never renumber, only add.
    var code: UInt8 {
        switch self {
        case .random: 0
        case .text: 1
        case .zero: 2
        case .mixed: 3
        }
    }

    init?(code: UInt8) {
        guard let fill = Self.allCases.first(where: { $0.code == code }) else { return nil }
        self = fill
    }
}
