/// The arithmetic from which content, choices and checksums are made.
///
/// Source of `finish`: the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", 2014). Changing anything here changes the meaning of every
/// saved state.
enum Mixing {
    /// The odd number nearest to 2^64 divided by the golden ratio.
    static let golden: UInt64 = 0x9E37_79B9_7F4A_7C15

    /// A bijection in which every bit of the result depends on every bit of `value`.
    @inline(__always)
    static func finish(_ value: UInt64) -> UInt64 {
        var mixed = value
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Mixes two values, in that order.
    @inline(__always)
    static func combine(_ first: UInt64, _ second: UInt64) -> UInt64 {
        finish((first &+ golden) ^ finish(second &+ golden))
    }

    /// The element `index` of the stream that `key` begins.
    @inline(__always)
    static func element(_ index: UInt64, of key: UInt64) -> UInt64 {
        finish(key &+ (index &+ 1) &* golden)
    }

    /// A number below `bound`, from the low 32 bits of `value`.
    /// - Precondition: `value` and `bound` are at most 2^32.
    @inline(__always)
    static func scale(_ value: UInt64, below bound: UInt64) -> UInt64 {
        (value &* bound) >> 32
    }

    /// By Euclid's algorithm; steps that share no factor with a length visit all of it.
    static func greatestCommonDivisor(_ first: UInt64, _ second: UInt64) -> UInt64 {
        var (larger, smaller) = (first, second)
        while smaller != 0 { (larger, smaller) = (smaller, larger % smaller) }
        return larger
    }
}
