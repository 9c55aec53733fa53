import PageModel

/// Blocktime as anybody would write it: it keeps every wait, and sweeps them afterwards.
struct BlocktimeModel {
    struct Wait {
        let thread: Int32
        let page: HostPage
        let start: UInt64
        var end: UInt64?
    }

    var waits: [Wait] = []

    mutating func begin(thread: Int32, page: HostPage, at now: UInt64) {
        if let open = waits.firstIndex(where: { $0.thread == thread && $0.end == nil }) {
            if waits[open].page == page { return }
            waits[open].end = now
        }
        waits.append(Wait(thread: thread, page: page, start: now))
    }

    mutating func placed(page: HostPage, at now: UInt64) -> Int {
        var ended = 0
        for index in waits.indices where waits[index].page == page && waits[index].end == nil {
            waits[index].end = now
            ended += 1
        }
        return ended
    }

    mutating func finish(at now: UInt64) {
        for index in waits.indices where waits[index].end == nil { waits[index].end = now }
    }

    func lengths(of thread: Int32) -> [UInt64] {
        waits.filter { $0.thread == thread }.map { ($0.end ?? $0.start) - $0.start }
    }

    /// Between two neighbouring instants each vCPU waits all the time or not at all.
    func overlapped(_ vcpus: [Int32]) -> UInt64 {
        let instants = Set(waits.flatMap { [$0.start, $0.end ?? $0.start] }).sorted()
        var total: UInt64 = 0
        for (left, right) in zip(instants, instants.dropFirst()) {
            let allWait = vcpus.allSatisfy { vcpu in
                waits.contains {
                    $0.thread == vcpu && $0.start <= left && ($0.end ?? $0.start) >= right
                }
            }
            if allWait && !vcpus.isEmpty { total += right - left }
        }
        return total
    }
}
