import Foundation
import Histogram
import LinuxKernel

/// One line of the result: what the floor and the runtime did, and how far apart they are.
struct Row: Encodable {
    let name: String
    let unit: String
    let runs: Int
    /// Medians over the runs.
    let floor: Double
    let ours: Double
    /// Ours by the floor, median of the pairs that ran next to each other.
    let ratio: Double
    /// The smallest and the largest of those ratios.
    let spread: [Double]
}

/// The figures of one run.
struct LatencyFigures {
    let count: Int
    let mean: Double
    let p50: Double
    let p99: Double

    init(_ nanoseconds: [UInt64]) {
        var histogram = Histogram<UInt64>(
            highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
        for value in nanoseconds { histogram.record(value) }
        count = nanoseconds.count
        mean = histogram.mean / 1_000
        p50 = Double(histogram.valueAtPercentile(50)) / 1_000
        p99 = Double(histogram.valueAtPercentile(99)) / 1_000
    }
}

func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

func milliseconds(_ body: () -> Void) -> Double {
    let start = Monotonic.now()
    body()
    return Double(Monotonic.now() - start) / 1e6
}

func one(_ value: Double) -> String { String(format: "%.1f", value) }
func two(_ value: Double) -> String { String(format: "%.2f", value) }

extension Row {
    /// As it is printed.
    var line: String {
        name.padding(toLength: max(44, name.count + 1), withPad: " ", startingAt: 0)
            + "floor \(one(floor)) \(unit), ours \(one(ours)) \(unit), ratio \(two(ratio)) "
            + "(\(two(spread[0]))-\(two(spread[1])))"
    }

    /// - Parameter pairs: floor and ours, run next to each other.
    init(_ name: String, unit: String, pairs: [(floor: Double, ours: Double)]) {
        let ratios = pairs.map { $0.ours / $0.floor }
        self.init(
            name: name, unit: unit, runs: pairs.count, floor: median(pairs.map(\.floor)),
            ours: median(pairs.map(\.ours)), ratio: median(ratios),
            spread: [ratios.min()!, ratios.max()!])
    }
}
