internal import Synchronization

/// Where threads leave their records as they end: the latest are kept, over all links.
final class FlightStore<Record: BitwiseCopyable & Sendable>: Sendable {
    private struct Kept {
        var records: [Record] = []
        var lostCount: UInt64 = 0
    }

    private let kept = Mutex(Kept())
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    func add(_ left: (records: [Record], lostCount: UInt64)) {
        kept.withLock { kept in
            kept.records += left.records
            kept.lostCount += left.lostCount
            let excess = kept.records.count - capacity
            guard excess > 0 else { return }
            kept.records.removeFirst(excess)
            kept.lostCount += UInt64(excess)
        }
    }

    var current: (records: [Record], lostCount: UInt64) {
        kept.withLock { ($0.records, $0.lostCount) }
    }
}
