/// Where a long task stands, in the words and numbers of one line.
struct Progress: Equatable, Sendable {
    let phase: String
    /// 0 to 1; `nil` where there is nothing to count yet.
    let fraction: Double?
    /// The most important first: a narrow terminal loses the last.
    let details: [String]

    init(phase: String, fraction: Double?, details: [String] = []) {
        self.phase = phase
        self.fraction = fraction.map { min(1, max(0, $0)) }
        self.details = details
    }

    private var percent: String? { fraction.map { "\(Int($0 * 100))%" } }

    /// For a file or a pipe.
    var line: String {
        ([[phase, percent].compactMap(\.self).joined(separator: " ")] + details)
            .joined(separator: ", ")
    }

    /// For a terminal: never wider than `columns` less one, so that the cursor does not wrap.
    func bar(columns: Int) -> String {
        let room = max(0, columns - 1)
        guard let fraction, let percent else { return String(line.prefix(room)) }
        let number = String(repeating: " ", count: 4 - percent.count) + percent
        for count in stride(from: details.count, through: 0, by: -1) {
            let tail = details.prefix(count).map { "  \($0)" }.joined()
            let around = phase.count + number.count + tail.count + 4
            let cells = min(Self.cellsMax, room - around)
            guard cells >= Self.cellsMin else { continue }
            let full = Int(fraction * Double(cells))
            let gauge =
                String(repeating: "#", count: full)
                + String(repeating: "-", count: cells - full)
            return "\(phase) [\(gauge)]\(number) \(tail)"
        }
        return String("\(phase)\(number)".prefix(room))
    }

    private static let cellsMin = 10
    private static let cellsMax = 40
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
