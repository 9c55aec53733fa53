/// Which thread runs which vCPU, searched without allocating.
struct VCPUThreads: Sendable {
    private struct Entry {
        let thread: Int32
        let vcpu: Int
    }

    /// By thread, each thread once.
    private let entries: [Entry]

    /// Threads by vCPU. One that is named twice keeps its first place: a single thread may run all
    /// vCPUs in turn.
    init(_ threads: [Int32]) {
        var entries: [Entry] = []
        entries.reserveCapacity(threads.count)
        let sorted = threads.enumerated().sorted {
            ($0.element, $0.offset) < ($1.element, $1.offset)
        }
        for (vcpu, thread) in sorted where entries.last?.thread != thread {
            entries.append(Entry(thread: thread, vcpu: vcpu))
        }
        self.entries = entries
    }

    /// How many different threads there are.
    var threadCount: Int { entries.count }

    /// The vCPU that `thread` runs.
    func index(of thread: Int32) -> Int? {
        var lower = 0
        var upper = entries.count
        while lower < upper {
            let middle = (lower + upper) / 2
            if entries[middle].thread < thread { lower = middle + 1 } else { upper = middle }
        }
        guard lower < entries.count, entries[lower].thread == thread else { return nil }
        return entries[lower].vcpu
    }
}
