/// Which thread runs which vCPU, found without allocating.
struct VCPUThreads: Sendable {
    /// By vCPU, the first one that the same thread runs: a single thread may run several in turn.
    let seats: [Int]
    private let threads: [Int32]
    private let table: SlotTable

    /// Threads by vCPU. One that is named twice keeps its first place.
    init(_ threads: [Int32]) {
        var table = SlotTable(capacity: max(1, threads.count))
        var seats: [Int] = []
        for (vcpu, thread) in threads.enumerated() {
            let hash = SlotTable.hash(UInt64(truncatingIfNeeded: thread))
            let first = table.slot(hash: hash) { threads[$0] == thread }
            if first == nil { table.insert(vcpu, hash: hash) }
            seats.append(first ?? vcpu)
        }
        self.threads = threads
        self.seats = seats
        self.table = table
    }

    /// The vCPU that `thread` runs.
    func index(of thread: Int32) -> Int? {
        table.slot(hash: SlotTable.hash(UInt64(truncatingIfNeeded: thread))) {
            threads[$0] == thread
        }
    }
}
