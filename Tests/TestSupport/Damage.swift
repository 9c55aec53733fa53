/// Harm done to bytes, as a broken or hostile peer would do it.
public enum Damage {
    /// Flips a bit, sets a byte, inserts, deletes, cuts, writes the numbers that parsers fear, or
    /// goes on with the bytes of somebody else.
    /// - Parameter places: where the harm begins.
    /// - Parameter donor: whose bytes follow when two streams are joined.
    public static func strike(
        _ bytes: inout [UInt8], at places: Range<Int>, joining donor: [UInt8],
        with random: inout SeededRandom
    ) {
        let places = places.clamped(to: bytes.indices)
        guard !places.isEmpty else { return }
        let place = places.lowerBound + random.below(places.count)
        switch random.below(8) {
        case 0: bytes[place] ^= 1 << UInt8(random.below(8))
        case 1: bytes[place] = UInt8(truncatingIfNeeded: random.next())
        case 2: bytes.insert(UInt8(truncatingIfNeeded: random.next()), at: place)
        case 3: bytes.removeSubrange(place..<min(bytes.count, place + 1 + random.below(4)))
        case 4: bytes.removeSubrange(place...)
        case 5:
            bytes.removeSubrange(place...)
            if !donor.isEmpty { bytes += donor[random.below(donor.count)...] }
        case 6: nudge(&bytes, at: place, with: &random)
        default: writeExtreme(&bytes, at: place, with: &random)
        }
    }

    /// One more or one less than a length said.
    private static func nudge(
        _ bytes: inout [UInt8], at place: Int, with random: inout SeededRandom
    ) {
        if random.below(2) == 0 { bytes[place] &+= 1 } else { bytes[place] &-= 1 }
    }

    /// A number of 1, 2, 4 or 8 bytes: 0, 1, the largest with a sign, the largest without.
    private static func writeExtreme(
        _ bytes: inout [UInt8], at place: Int, with random: inout SeededRandom
    ) {
        let width = min(1 << random.below(4), bytes.count - place)
        let extreme = random.below(4)
        for index in 0..<width {
            let isFirst = index == 0
            let isLast = index == width - 1
            bytes[place + index] =
                switch extreme {
                case 0: 0
                case 1: isLast ? 1 : 0
                case 2: isFirst ? 0x7f : 0xff
                default: 0xff
                }
        }
    }
}
