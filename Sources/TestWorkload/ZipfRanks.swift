/// Draws ranks with a weight of r^-0.99: the few hot pages and the long tail of real memory.
///
/// The weight is that of the continuous distribution over [1, n + 1), whose inverse is
/// `(1 + u * (c - 1))^100` with `c = (n + 1)^(1/100)`. It needs only + - * /, which IEEE 754 makes
/// equal on every machine; `pow` is not. Ranks are scattered over the share by a multiplication
/// modulo n near the golden section, so that hot pages are not neighbours.
struct ZipfRanks: Sendable {
    private let count: UInt64
    private let spread: Double
    private let multiplier: UInt64

    /// - Precondition: `count` is 1...2^32.
    init(count: Int) {
        precondition(count >= 1 && count <= 1 << 32)
        self.count = UInt64(count)
        spread = Self.hundredthRoot(Double(count + 1)) - 1
        multiplier = Self.multiplier(coprimeTo: self.count)
    }

    /// The place in the share, below `count`, that `random` draws.
    @inline(__always)
    func place(_ random: UInt64) -> UInt64 { scattered(rank(random)) }

    /// The rank from 0, the most frequent first. Uses the upper 53 bits of `random`.
    @inline(__always)
    func rank(_ random: UInt64) -> UInt64 {
        let unit = Double(random >> 11) * 0x1p-53
        return min(UInt64(Self.hundredthPower(1 + unit * spread)) &- 1, count &- 1)
    }

    /// A permutation of `0..<count`; both factors are below 2^32, so the product fits.
    @inline(__always)
    func scattered(_ rank: UInt64) -> UInt64 { rank &* multiplier % count }

    @inline(__always)
    private static func hundredthPower(_ base: Double) -> Double {
        let power2 = base * base
        let power4 = power2 * power2
        let power8 = power4 * power4
        let power16 = power8 * power8
        let power32 = power16 * power16
        return power32 * power32 * power32 * power4
    }

    /// By bisection; 80 halvings exhaust the 53 bits.
    private static func hundredthRoot(_ value: Double) -> Double {
        var low = 1.0
        var high = 2.0
        for _ in 0..<80 {
            let middle = (low + high) / 2
            if hundredthPower(middle) <= value { low = middle } else { high = middle }
        }
        return low
    }

    private static func multiplier(coprimeTo count: UInt64) -> UInt64 {
        var candidate = max(1, count * 618 / 1000)
        while Mixing.greatestCommonDivisor(candidate, count) != 1 { candidate += 1 }
        return candidate
    }
}
