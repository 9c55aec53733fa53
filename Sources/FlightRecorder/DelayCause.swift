/// What took the time, or a part of it, for which a thread waited.
public enum DelayCause: String, CaseIterable, Hashable, Sendable {
    /// From the fault to its being read.
    case noticing
    /// From there to the request's being written.
    case asking
    /// The link was down, or the two sides were finding each other again.
    case linkDown = "link-down"
    /// The request was on its way to the source, or lay there unread.
    case requestTravel = "request-travel"
    /// Without an urgent channel: the background's write under way came first, and requests ahead.
    case behindBackground = "behind-background"
    /// The huge page was being sent in pieces, each held back by the rate limit.
    case rateLimit = "rate-limit"
    /// The huge page was being sent in pieces.
    case hugePageInFlight = "huge-page-in-flight"
    /// The source answered other requests first.
    case sourceBusy = "source-busy"
    /// From the source's claim on the page to the end of its write.
    case serving
    /// The page was on its way.
    case pageTravel = "page-travel"
    /// The background sent it before its request's turn came.
    case alreadyInFlight = "already-in-flight"
    /// Another thread had asked, and of that there is no record.
    case waitingForAnother = "waiting-for-another"
    /// The page had to be fetched from the host that the guest left.
    case relayed
    /// From the first byte to the page's being there.
    case placing
    /// The page was there, and that was noted late.
    case waking
    /// All between request and page, where the source's record is not known.
    case linkAndSource = "link-and-source"

    /// In words that follow a share of the time: "62 % on the page's way".
    public var text: String {
        switch self {
        case .noticing: "before the fault was read"
        case .asking: "before the page was asked for"
        case .linkDown: "with the link down"
        case .requestTravel: "on the request's way"
        case .behindBackground: "queued behind the background"
        case .rateLimit: "held by the rate limit"
        case .hugePageInFlight: "for the rest of its huge page"
        case .sourceBusy: "behind other requests at the source"
        case .serving: "being sent at the source"
        case .pageTravel: "on the page's way"
        case .alreadyInFlight: "on its way in the background"
        case .waitingForAnother: "asked for by another thread"
        case .relayed: "fetched from the host that the guest left"
        case .placing: "being placed"
        case .waking: "there, and noted late"
        case .linkAndSource: "on the link and at the source"
        }
    }

    /// Its place among `allCases`.
    var ordinal: Int {
        switch self {
        case .noticing: 0
        case .asking: 1
        case .linkDown: 2
        case .requestTravel: 3
        case .behindBackground: 4
        case .rateLimit: 5
        case .hugePageInFlight: 6
        case .sourceBusy: 7
        case .serving: 8
        case .pageTravel: 9
        case .alreadyInFlight: 10
        case .waitingForAnother: 11
        case .relayed: 12
        case .placing: 13
        case .waking: 14
        case .linkAndSource: 15
        }
    }
}

/// Time by its cause, in nanoseconds.
public struct CauseTotals: Hashable, Sendable {
    private var byCause = [UInt64](repeating: 0, count: DelayCause.allCases.count)

    /// No time yet.
    public init() {}

    /// The time of one cause.
    public subscript(cause: DelayCause) -> UInt64 { byCause[cause.ordinal] }

    /// The time of all causes.
    public var total: UInt64 { byCause.reduce(0) { $0.addingCapped($1) } }

    /// The cause that took the most, the earlier one of equals; `nil` where none took any.
    public var largest: DelayCause? {
        var place = 0
        for index in byCause.indices where byCause[index] > byCause[place] { place = index }
        return byCause[place] > 0 ? DelayCause.allCases[place] : nil
    }

    /// The causes that took any time, the largest first.
    public var sorted: [(cause: DelayCause, nanoseconds: UInt64)] {
        DelayCause.allCases.map { ($0, self[$0]) }.filter { $0.1 > 0 }
            .sorted { ($1.1, $0.0.ordinal) < ($0.1, $1.0.ordinal) }
    }

    mutating func add(_ nanoseconds: UInt64, to cause: DelayCause) {
        byCause[cause.ordinal] = byCause[cause.ordinal].addingCapped(nanoseconds)
    }

    mutating func add(_ other: CauseTotals) {
        for index in byCause.indices {
            byCause[index] = byCause[index].addingCapped(other.byCause[index])
        }
    }

    mutating func clear() { for index in byCause.indices { byCause[index] = 0 } }
}

extension UInt64 {
    /// The sum, or the largest number: records may say anything.
    func addingCapped(_ other: UInt64) -> UInt64 {
        let (sum, isOver) = addingReportingOverflow(other)
        return isOver ? .max : sum
    }
}
