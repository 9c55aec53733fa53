internal import CoreMetrics
internal import Postcopy
internal import Synchronization

/// One line of a metric.
struct MetricSample: Equatable, Sendable {
    /// What it adds to the name of its metric.
    var suffix = ""
    /// Labels of its own, as they are written.
    var labels = ""
    var value: String
}

/// The numbers of one name and one set of labels. Any thread may change them.
protocol MetricSeries: AnyObject, Sendable {
    var samples: [MetricSample] { get }
}

/// A whole number that grows.
final class CountSeries: MetricSeries, CounterHandler {
    /// Relaxed: a number by itself.
    private let count = Atomic<Int64>(0)

    func increment(by amount: Int64) { count.wrappingAdd(amount, ordering: .relaxed) }
    func reset() { count.store(0, ordering: .relaxed) }

    var samples: [MetricSample] { [MetricSample(value: "\(count.load(ordering: .relaxed))")] }
}

/// A number that grows by parts.
final class SumSeries: MetricSeries, FloatingPointCounterHandler {
    private let sum = Mutex(0.0)

    func increment(by amount: Double) {
        guard amount.isFinite, amount > 0 else { return }
        sum.withLock { $0 += amount }
    }

    func reset() { sum.withLock { $0 = 0 } }

    var samples: [MetricSample] { [MetricSample(value: "\(sum.withLock { $0 })")] }
}

/// A number of now.
final class GaugeSeries: MetricSeries, RecorderHandler, MeterHandler {
    private let value = Mutex(0.0)

    func record(_ value: Int64) { set(Double(value)) }
    func record(_ value: Double) { set(value) }
    func set(_ value: Int64) { set(Double(value)) }
    func set(_ value: Double) { self.value.withLock { $0 = value } }
    func increment(by amount: Double) { value.withLock { $0 += amount } }
    func decrement(by amount: Double) { value.withLock { $0 -= amount } }

    var samples: [MetricSample] {
        let value = value.withLock { $0 }
        // A whole number reads better, and a double holds it up to 2^53.
        let whole = Int64(exactly: value).map { "\($0)" }
        return [MetricSample(value: whole ?? (value.isNaN ? "NaN" : "\(value)"))]
    }
}

/// Waits by their length, in QEMU's buckets.
final class WaitSeries: MetricSeries, WaitRecorder {
    private struct State {
        var counts = [UInt64](repeating: 0, count: LatencyBuckets.bucketCount)
        var nanoseconds: UInt64 = 0
    }

    private let state = Mutex(State())

    func record(_ waits: LatencyBuckets, totalNanoseconds: UInt64) {
        state.withLock { state in
            for (bucket, count) in waits.counts.enumerated() { state.counts[bucket] += count }
            state.nanoseconds += totalNanoseconds
        }
    }

    func record(_ value: Int64) { record(Double(value)) }

    /// - Parameter value: in seconds.
    func record(_ value: Double) {
        // Half a year at most, so that sums stay far from their end.
        let nanoseconds = UInt64(min(max(value.isNaN ? 0 : value, 0), 15e6) * 1e9)
        var one = LatencyBuckets()
        one.record(nanoseconds: nanoseconds)
        record(one, totalNanoseconds: nanoseconds)
    }

    var samples: [MetricSample] {
        let state = state.withLock { $0 }
        var sum: UInt64 = 0
        var samples = state.counts.enumerated().map { bucket, count in
            sum += count
            let bound =
                bucket == LatencyBuckets.bucketCount - 1
                ? "+Inf" : "\(Double(UInt64(2) << UInt64(bucket)) / 1e6)"
            return MetricSample(suffix: "_bucket", labels: "le=\"\(bound)\"", value: "\(sum)")
        }
        samples.append(MetricSample(suffix: "_count", value: "\(sum)"))
        samples.append(MetricSample(suffix: "_sum", value: "\(Double(state.nanoseconds) / 1e9)"))
        return samples
    }
}
