/// How long no vCPU ran because of missing pages: at least one was blocked, and each of the others
/// blocked or halted.
///
/// Edges may be told late: one lies exactly where it belongs unless `edgeCapacity` later ones had been
/// told before it. Then it counts from the latest instant that was settled.
///
/// Source: `last_begin` and `total_blocktime` of QEMU's `PostcopyBlocktimeContext`, which knows
/// nothing of halts.
struct Overlap: Sendable {
    /// A fault that is read late comes behind what the other threads did meanwhile: a few edges each,
    /// so that 512 hold those of a hundred threads. 8 KiB.
    static let edgeCapacity = 512

    private var edges = VCPUEdges(capacity: Overlap.edgeCapacity)
    private var settled: Standstill

    init(_ threads: VCPUThreads) { settled = Standstill(seats: threads.seats) }

    /// Notes that a vCPU stops or goes on; one that there is not is nobody's.
    mutating func note(_ kind: VCPUEdge.Kind, vcpu: Int, at instant: UInt64) {
        guard settled.seats.indices.contains(vcpu) else { return }
        let edge = VCPUEdge(at: instant, vcpu: Int32(truncatingIfNeeded: vcpu), kind: kind)
        if edges.isFull {
            guard edge.at >= edges[0].at else { return settled.apply(edge) }
            settled.apply(edges.removeFirst())
        }
        edges.insert(edge)
    }

    /// Counts up to `instant` by the vCPUs so far, and goes on with these, of which nobody is blocked;
    /// answers when that was.
    mutating func restart(_ threads: VCPUThreads, at instant: UInt64) -> UInt64 {
        while edges.count > 0 { settled.apply(edges.removeFirst()) }
        settled.advance(to: instant)
        settled = Standstill(seats: threads.seats, after: settled)
        return settled.instant
    }

    /// Counted by all edges that were told.
    var nanoseconds: UInt64 {
        var all = settled
        for place in 0..<edges.count { all.apply(edges[place]) }
        return all.nanoseconds
    }
}

/// Which vCPUs run at an instant, and how long none did before it.
private struct Standstill: Sendable {
    /// By vCPU, the one whose thread runs it too.
    let seats: [Int]
    private(set) var instant: UInt64 = 0
    private(set) var nanoseconds: UInt64 = 0
    private var isHalted: [Bool]
    /// By seat: waits that are open. A thread has one at most, but two that meet at one instant.
    private var waitCounts: [Int]
    /// By seat: vCPUs of the thread that are not halted.
    private var awakeCounts: [Int]
    private var runningCount = 0
    private var blockedCount = 0

    /// The vCPUs that there were are as halted as before.
    init(seats: [Int], after before: Standstill? = nil) {
        self.seats = seats
        instant = before?.instant ?? 0
        nanoseconds = before?.nanoseconds ?? 0
        isHalted = Array((before?.isHalted ?? []).prefix(seats.count))
        isHalted += repeatElement(false, count: seats.count - isHalted.count)
        waitCounts = Array(repeating: 0, count: seats.count)
        awakeCounts = waitCounts
        for (vcpu, seat) in seats.enumerated() where !isHalted[vcpu] { awakeCounts[seat] += 1 }
        runningCount = awakeCounts.count { $0 > 0 }
    }

    mutating func advance(to later: UInt64) {
        guard later > instant else { return }
        if runningCount == 0, blockedCount > 0 { nanoseconds += later - instant }
        instant = later
    }

    mutating func apply(_ edge: VCPUEdge) {
        advance(to: edge.at)
        let seat = seats[Int(edge.vcpu)]
        let (didRun, wasBlocked) = (runs(seat), waitCounts[seat] > 0)
        switch edge.kind {
        case .blocked: waitCounts[seat] += 1
        case .released: waitCounts[seat] -= 1
        case .halted: setHalted(Int(edge.vcpu), true)
        case .woken: setHalted(Int(edge.vcpu), false)
        }
        runningCount += (runs(seat) ? 1 : 0) - (didRun ? 1 : 0)
        blockedCount += (waitCounts[seat] > 0 ? 1 : 0) - (wasBlocked ? 1 : 0)
    }

    private func runs(_ seat: Int) -> Bool { waitCounts[seat] == 0 && awakeCounts[seat] > 0 }

    private mutating func setHalted(_ vcpu: Int, _ halts: Bool) {
        guard isHalted[vcpu] != halts else { return }
        isHalted[vcpu] = halts
        awakeCounts[seats[vcpu]] += halts ? -1 : 1
    }
}
