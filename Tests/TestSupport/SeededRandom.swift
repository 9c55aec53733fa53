/// The same numbers for the same seed (SplitMix64), so that a failing seed can be run again.
public struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) { state = seed }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the slight bias does not matter in a test.
    public mutating func below(_ bound: Int) -> Int {
        Int(truncatingIfNeeded: next() >> 33) % bound
    }

    /// A range inside `0..<count`, empty ones included.
    public mutating func range(in count: Int) -> Range<Int> {
        let ends = [Int.random(in: 0...count, using: &self), .random(in: 0...count, using: &self)]
        return min(ends[0], ends[1])..<max(ends[0], ends[1])
    }
}
