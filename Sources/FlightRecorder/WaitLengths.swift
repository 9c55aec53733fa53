public import MigrationCore

/// The lengths of waits, exactly.
public struct WaitLengths: Hashable, Sendable {
    /// In nanoseconds, the shortest first.
    private let lengths: [UInt64]
    /// Their sum.
    public let nanoseconds: UInt64

    /// One of these lengths, in any order.
    public init(_ lengths: [UInt64]) {
        self.lengths = lengths.sorted()
        nanoseconds = lengths.reduce(0) { $0.addingCapped($1) }
    }

    /// How many waits.
    public var count: UInt64 { UInt64(lengths.count) }

    /// Their mean; 0 for none.
    public var meanNanoseconds: UInt64 { nanoseconds / max(1, count) }

    /// The longest; 0 for none.
    public var maxNanoseconds: UInt64 { lengths.last ?? 0 }

    /// The shortest length that is not exceeded by this share of them; 0 for none.
    public func percentile(_ percent: Double) -> UInt64 {
        guard !lengths.isEmpty else { return 0 }
        let rank = (percent / 100 * Double(lengths.count)).rounded(.up)
        return lengths[min(max(Int(rank), 1), lengths.count) - 1]
    }

    /// As QEMU counts them.
    public var buckets: LatencyBuckets {
        var buckets = LatencyBuckets()
        for length in lengths { buckets.record(nanoseconds: length) }
        return buckets
    }

    /// Values and how many waits have each, the smallest first. A value stands for those that agree
    /// with it in its eleven highest bits, so that there are at most some ten thousand.
    public var histogram: [(nanoseconds: UInt64, count: UInt64)] {
        var result: [(nanoseconds: UInt64, count: UInt64)] = []
        for length in lengths {
            let dropped = max(0, UInt64.bitWidth - length.leadingZeroBitCount - 11)
            let value = (length >> UInt64(dropped)) << UInt64(dropped)
            if result.last?.nanoseconds == value {
                result[result.count - 1].count += 1
            } else {
                result.append((value, 1))
            }
        }
        return result
    }
}
