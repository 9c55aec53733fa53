import Foundation
import TestSupport

/// A guest and how it writes, over time, as a simulated precopy sees it.
///
/// Sizes are in seconds of sending at the bandwidth, and rates in bytes written per byte sent, so
/// that 1 is a guest that writes as fast as the link sends, if each write hit another page.
struct DirtyTrace: Sendable {
    enum Kind: String, CaseIterable, Sendable { case idle, below, above, bursts, phases, recorded }

    /// Memory in the order in which it is sent: runs of pages that belong to one zone. Within a zone
    /// all pages are equally likely to be written: the more are dirty, the fewer are newly dirtied.
    struct Run: Sendable {
        let zone: Int
        let seconds: Double
    }

    /// How fast each zone is written until a time.
    struct Stretch: Sendable {
        let until: Double
        let rates: [Double]
    }

    let kind: Kind
    let name: String
    let bandwidthBytesPerSecond: Double
    /// What a sync takes, while nothing is sent.
    let syncSeconds: Double
    let runs: [Run]
    let stretches: [Stretch]

    static let zoneCount = 3
    /// Memory that is never written, and two working sets.
    static let coldZone = 0

    var totalSeconds: Double { runs.reduce(0) { $0 + $1.seconds } }

    /// A millisecond for the wake-ups, and 0.2 ms for each GiB, whose dirty log must be read.
    static func syncSeconds(memoryBytes: Double) -> Double { 0.001 + 0.0002 * memoryBytes / 0x1p30 }
}

extension DirtyTrace {
    /// One of five kinds, by the seed: as long as the seed is the same, so is the trace.
    init(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let kind = [Kind.idle, .below, .above, .bursts, .phases][Int(seed % 5)]
        let memoryBytes = random.logarithmic(0x1p30...0x1p36)
        let bandwidth = random.logarithmic(1e8...1e10)
        let total = memoryBytes / bandwidth
        // Two working sets of half a percent to half of what there is.
        let hot = random.logarithmic(0.005...0.5)
        let warm = (1 - hot) * random.logarithmic(0.005...0.5)
        let zones = [1 - hot - warm, warm, hot].map { $0 * total }
        self.init(
            kind: kind, name: "seed \(seed)", bandwidthBytesPerSecond: bandwidth,
            syncSeconds: DirtyTrace.syncSeconds(memoryBytes: memoryBytes),
            runs: DirtyTrace.layout(zones: zones, &random),
            stretches: DirtyTrace.stretches(kind, total: total, &random))
    }

    /// Two to 32 runs for each zone, of all lengths and in any order: a guest scatters what it
    /// allocates, but hot memory may still lie in few pieces, also at the end.
    private static func layout(zones: [Double], _ random: inout SeededRandom) -> [Run] {
        let count = Int(random.logarithmic(2...32.9))
        var runs: [Run] = []
        for (zone, seconds) in zones.enumerated() {
            let shares = (0..<count).map { _ in random.exponential(mean: 1) }
            let sum = shares.reduce(0, +)
            runs += shares.map { Run(zone: zone, seconds: seconds * $0 / sum) }
        }
        runs.shuffle(using: &random)
        // Long runs in pieces, so that what is behind and before the cursor can differ.
        let pieces = max(1, 36 / runs.count)
        return runs.flatMap { run in
            Array(
                repeating: Run(zone: run.zone, seconds: run.seconds / Double(pieces)),
                count: pieces)
        }
    }

    private static func stretches(
        _ kind: Kind, total: Double, _ random: inout SeededRandom
    ) -> [Stretch] {
        let share = Double.random(in: 0...0.2, using: &random)
        func rates(_ rate: Double, swapped: Bool = false) -> [Double] {
            swapped
                ? [0, rate * (1 - share), rate * share] : [0, rate * share, rate * (1 - share)]
        }
        switch kind {
        case .idle, .below, .above, .recorded:
            return [Stretch(until: .infinity, rates: rates(random.rate(kind)))]
        case .bursts:
            // 10 ms to 2 s at once to twelve times the bandwidth, and calm two to fifty times as long.
            let calm = rates(.random(in: 0...0.3, using: &random))
            let burst = rates(random.logarithmic(1...12))
            let length = random.logarithmic(0.01...2)
            let pause = length * random.logarithmic(2...50)
            var stretches: [Stretch] = []
            var time = 0.0
            var isBurst = Double.random(in: 0..<1, using: &random) < length / (length + pause)
            while time < 13 * total, stretches.count < 20_000 {
                time += random.exponential(mean: isBurst ? length : pause)
                stretches.append(Stretch(until: time, rates: isBurst ? burst : calm))
                isBurst.toggle()
            }
            return stretches
        case .phases:
            // The first change falls into the bulk round or soon after it. The working sets may change
            // places.
            var times = [Double.random(in: 0.1...1.5, using: &random) * total]
            for _ in 0..<random.below(3) {
                times.append(times.last! + random.exponential(mean: total))
            }
            return (times + [.infinity]).map { until in
                let kind = [Kind.idle, .below, .above][random.below(3)]
                let rate = random.rate(kind)
                return Stretch(until: until, rates: rates(rate, swapped: random.below(2) == 0))
            }
        }
    }
}

extension SeededRandom {
    /// Equally likely in each factor of two.
    fileprivate mutating func logarithmic(_ range: ClosedRange<Double>) -> Double {
        exp(.random(in: log(range.lowerBound)...log(range.upperBound), using: &self))
    }

    /// Lengths without memory: that one has lasted says nothing of its end.
    fileprivate mutating func exponential(mean: Double) -> Double {
        -log(1 - .random(in: 0..<1, using: &self)) * mean
    }

    fileprivate mutating func rate(_ kind: DirtyTrace.Kind) -> Double {
        switch kind {
        case .idle: .random(in: 0...0.03, using: &self)
        case .below: .random(in: 0.05...0.85, using: &self)
        case .above, .bursts, .phases, .recorded: logarithmic(1.05...10)
        }
    }
}
