internal import PageModel

/// Finds slots of a fixed array by the hash of what they hold: open addressing, linear probing.
///
/// At most half full, so that a search looks at few places however many slots are taken. Allocates only
/// when it is made: 16 to 32 bytes for each slot.
struct SlotTable: Sendable {
    private struct Place {
        var hash: UInt32
        /// Negative where nothing is.
        var slot: Int32
    }

    private static let free = Place(hash: 0, slot: -1)

    private var places: [Place]
    private let mask: Int

    /// A table of at most `capacity` slots at once.
    init(capacity: Int) {
        let size = 1 << (Int.bitWidth - (2 * capacity - 1).leadingZeroBitCount)
        places = Array(repeating: Self.free, count: size)
        mask = size - 1
    }

    /// The multiplier is 2^64 divided by the golden ratio: numbers in order, which is how guests fault
    /// and threads are numbered, spread evenly.
    static func hash(_ number: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: (number &* 0x9E37_79B9_7F4A_7C15) >> 32)
    }

    /// The slot with this hash that is the one.
    func slot(hash: UInt32, where isTheOne: (Int) -> Bool) -> Int? {
        var place = Int(hash) & mask
        while places[place].slot >= 0 {
            let slot = Int(places[place].slot)
            if places[place].hash == hash, isTheOne(slot) { return slot }
            place = (place + 1) & mask
        }
        return nil
    }

    /// Adds a slot, which is not in it.
    mutating func insert(_ slot: Int, hash: UInt32) {
        var place = Int(hash) & mask
        while places[place].slot >= 0 { place = (place + 1) & mask }
        places[place] = Place(hash: hash, slot: Int32(truncatingIfNeeded: slot))
    }

    /// Puts one slot in the stead of another, for the same key.
    mutating func replace(_ slot: Int, with other: Int, hash: UInt32) {
        places[place(of: slot, hash)].slot = Int32(truncatingIfNeeded: other)
    }

    /// Takes a slot out, and moves back what had to go around it, so that no search stops early.
    mutating func remove(_ slot: Int, hash: UInt32) {
        var hole = place(of: slot, hash)
        var place = hole
        while true {
            place = (place + 1) & mask
            guard places[place].slot >= 0 else { break }
            let distance = (place - Int(places[place].hash)) & mask
            guard distance >= (place - hole) & mask else { continue }
            places[hole] = places[place]
            hole = place
        }
        places[hole] = Self.free
    }

    private func place(of slot: Int, _ hash: UInt32) -> Int {
        var place = Int(hash) & mask
        while places[place].slot != slot {
            precondition(places[place].slot >= 0, "the slot is not in the table")
            place = (place + 1) & mask
        }
        return place
    }
}

extension HostPage {
    /// What a `SlotTable` finds it by.
    var slotHash: UInt32 {
        let page = UInt64(truncatingIfNeeded: page.rawValue)
        return SlotTable.hash(page ^ UInt64(truncatingIfNeeded: block.rawValue) << 48)
    }
}
