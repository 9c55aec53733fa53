internal import FlightRecorder
internal import PageModel

/// What one thread of a destination placed. Nothing is shared until the thread ends.
struct PlacementRecorder: ~Copyable {
    private let isOn: Bool
    private let isUrgent: Bool
    private var ring: FlightRing<PlacementRecord>

    /// 64 pages a record where memory comes in order: 16 GiB, in 1.5 MiB.
    static let capacity = 1 << 16

    init(state: DestinationState, isUrgent: Bool) {
        isOn = state.options.recordsFaults
        self.isUrgent = isUrgent
        ring = FlightRing(capacity: isOn ? Self.capacity : 1)
    }

    mutating func note(_ placed: PlacedRange) {
        guard isOn else { return }
        var record = PlacementRecord()
        record.at = placed.atNanoseconds
        record.page = UInt64(placed.pages.lowerBound.rawValue)
        record.count = UInt32(
            clamping: placed.pages.upperBound.rawValue - placed.pages.lowerBound.rawValue)
        record.block = UInt16(truncatingIfNeeded: placed.block.rawValue)
        record.isUrgent = isUrgent ? 1 : 0
        ring.append(record)
    }

    /// Hands over what was recorded, at the end of the thread.
    mutating func leave(to store: FlightStore<PlacementRecord>) { store.add(ring.drain()) }
}
