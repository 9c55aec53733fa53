/// Where a long task stands, in words and numbers.
struct Progress: Equatable, Sendable {
    let phase: String
    /// 0 to 1; `nil` where there is nothing to count yet.
    let fraction: Double?
    /// The most important first: a low terminal loses the last.
    let details: [String]
    /// Whether somebody may have to do something.
    let isWarning: Bool
    /// `nil` where pages are not waited for, or that is not known.
    let waits: RecentWaits?

    init(
        phase: String, fraction: Double?, details: [String] = [], isWarning: Bool = false,
        waits: RecentWaits? = nil
    ) {
        self.isWarning = isWarning
        self.waits = waits
        self.phase = phase
        self.fraction = fraction.map { min(1, max(0, $0)) }
        self.details = details
    }

    var percent: String? { fraction.map { "\(Int($0 * 100))%" } }

    /// For a file or a pipe.
    var line: String {
        ([[phase, percent].compactMap(\.self).joined(separator: " ")] + details)
            .joined(separator: ", ")
    }
}

/// Bytes per second over the last moments.
struct RateMeter {
    private var last: (bytes: UInt64, at: UInt64)?
    private(set) var bytesPerSecond = 0.0

    /// Averages over about half a second: a number that can be read.
    private static let spanNanoseconds = 500_000_000.0

    mutating func note(_ bytes: UInt64, at now: UInt64) {
        guard let before = last else {
            last = (bytes, now)
            return
        }
        let elapsed = Double(now - before.at)
        guard elapsed >= 1e6 else { return }
        let current = Double(bytes - min(bytes, before.bytes)) / elapsed * 1e9
        let weight = min(1, elapsed / Self.spanNanoseconds)
        bytesPerSecond += (current - bytesPerSecond) * weight
        last = (bytes, now)
    }
}
