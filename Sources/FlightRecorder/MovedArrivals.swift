/// When the pages came of waits that ended because their threads went on.
struct MovedArrivals {
    private let placements: [PlacementRecord]
    private let placed: PageIndex

    /// The kernel wakes a thread before anybody notes the time: whoever does so may not run for a turn
    /// of the scheduler or two.
    private static let lateNanosecondsMax: UInt64 = 10_000_000

    init(_ destination: FaultLog.Destination?) {
        let hasMoved = destination?.waits.contains { $0.flags.contains(.moved) } ?? false
        let records = hasMoved ? destination?.placements ?? [] : []
        placements = records
        placed = PageIndex(records.map { ($0.block, $0.page, $0.at) })
    }

    /// The wait as one whose page had come, where that is what woke its thread.
    func placing(_ wait: WaitRecord) -> WaitRecord {
        guard wait.flags.contains(.moved), wait.placed == 0 else { return wait }
        let latest = wait.endedAt.addingCapped(Self.lateNanosecondsMax)
        let found = placed.latestRange(block: wait.block, page: wait.page, upTo: latest)
        guard let record = found.map({ placements[$0] }), record.at <= latest,
            record.at >= wait.began, wait.page - record.page < UInt64(record.count)
        else { return wait }
        var result = wait
        result.placed = min(record.at, wait.endedAt)
        if record.isUrgent != 0 { result.flags.insert(.urgent) }
        return result
    }
}
