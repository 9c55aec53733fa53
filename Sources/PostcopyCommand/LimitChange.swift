internal import Postcopy

/// A limit that somebody sets while a migration runs: in JSON a number, or "none".
enum LimitValue: Codable, Equatable, Sendable {
    case none
    case value(UInt64)

    private static let noneWord = "none"

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(UInt64.self) {
            self = .value(number)
            return
        }
        guard try container.decode(String.self) == Self.noneWord else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a limit is a number or \"\(Self.noneWord)\"")
        }
        self = .none
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .none: try container.encode(Self.noneWord)
        case .value(let number): try container.encode(number)
        }
    }

    var value: UInt64? {
        switch self {
        case .none: nil
        case .value(let number): number
        }
    }

    /// As an option's value: what `parse` takes, or "none".
    static func parser<Quantity>(
        _ parse: @escaping @Sendable (String) throws -> Quantity,
        _ number: @escaping @Sendable (Quantity) -> UInt64
    ) -> @Sendable (String) throws -> LimitValue {
        { text in text == noneWord ? .none : .value(number(try parse(text))) }
    }
}

/// The limits that somebody sets; what is `nil` stays as it is.
struct LimitChange: Codable, Equatable, Sendable {
    /// Bytes per second.
    var maxBandwidth: LimitValue?
    var maxPostcopyBandwidth: LimitValue?
    var downtimeLimitNs: LimitValue?

    var isEmpty: Bool { self == LimitChange() }

    func apply(to limits: inout MigrationLimits) {
        if let maxBandwidth { limits.maxBandwidth = maxBandwidth.value }
        if let maxPostcopyBandwidth { limits.maxPostcopyBandwidth = maxPostcopyBandwidth.value }
        if let downtimeLimitNs { limits.downtimeLimitNanoseconds = downtimeLimitNs.value }
    }
}

/// The limits that are in force; what is left out has none.
struct LimitFigures: Codable, Equatable, Sendable {
    var maxBandwidth: UInt64?
    var maxPostcopyBandwidth: UInt64?
    var downtimeLimitNs: UInt64?

    init(_ limits: MigrationLimits) {
        maxBandwidth = limits.maxBandwidth
        maxPostcopyBandwidth = limits.maxPostcopyBandwidth
        downtimeLimitNs = limits.downtimeLimitNanoseconds
    }

    /// In one line for people.
    var text: String {
        func rate(_ limit: UInt64?) -> String {
            limit.map { Readable.rate(Double($0)) } ?? "unlimited"
        }
        let downtime = downtimeLimitNs.map { ", downtime at most \(Readable.time($0))" } ?? ""
        return "\(rate(maxBandwidth)) before the move, \(rate(maxPostcopyBandwidth)) after it"
            + downtime
    }
}
