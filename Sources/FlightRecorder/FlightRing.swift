/// The latest records of one thread, which owns it: a full one loses its oldest record to the newest.
///
/// Allocates its address space when it is made, and takes memory only as records come.
public struct FlightRing<Record: BitwiseCopyable & Sendable>: ~Copyable, Sendable {
    private var records: [Record] = []
    private let capacity: Int
    private var next = 0
    /// Records that were overwritten.
    public private(set) var lostCount: UInt64 = 0

    /// An empty one.
    /// - Precondition: `capacity` is above 0.
    public init(capacity: Int) {
        precondition(capacity > 0)
        self.capacity = capacity
        records.reserveCapacity(capacity)
    }

    /// Notes one record.
    public mutating func append(_ record: Record) {
        guard records.count == capacity else { return records.append(record) }
        records[next] = record
        next = next + 1 == capacity ? 0 : next + 1
        lostCount += 1
    }

    /// Takes out all that is kept, the oldest first.
    public mutating func drain() -> (records: [Record], lostCount: UInt64) {
        defer {
            records = []
            next = 0
            lostCount = 0
        }
        guard next > 0 else { return (records, lostCount) }
        return (Array(records[next...]) + records[..<next], lostCount)
    }
}
