internal import LinuxKernel
internal import Synchronization

/// When vCPUs halt and go on, told by their own threads and read by the thread that counts blocktime.
///
/// A VMM notes a halt before its vCPU thread sleeps for want of work, and the end of it before the vCPU
/// runs again. One whose vCPUs halt inside KVM does not see that and has nothing to note.
/// Noting: no lock, no allocation, no system call but the clock's; from the vCPU's own thread.
public final class VCPUHalts: Sendable {
    /// For each vCPU. They are taken whenever faults are read: 128 halts in between are more than a tick
    /// of a thousand a second makes in a tenth of one. 2 KiB.
    static let edgeCapacity = 256

    private let rings: [HaltRing]
    /// Kept for the next draining, so that it seldom allocates; no other thread asks for it.
    private let taken = Mutex<[HaltEdge]>([])

    /// For vCPUs 0 to `vcpuCount - 1`, none of them halted.
    public init(vcpuCount: Int) {
        rings = (0..<vcpuCount).map { _ in HaltRing() }
    }

    /// How many vCPUs it was made for.
    public var vcpuCount: Int { rings.count }

    /// Halts that were not noted, since nobody had read the ones before: their vCPU counts as running.
    public var droppedCount: UInt64 {
        rings.reduce(0) { $0 + $1.droppedCount.load(ordering: .relaxed) }
    }

    /// Notes that a vCPU halts, or that it goes on. What it is already is not noted again.
    /// - Precondition: `vcpu` is one of them, and the calling thread runs it.
    public func note(vcpu: Int, isHalted: Bool) {
        note(vcpu: vcpu, isHalted: isHalted, at: Monotonic.now())
    }

    func note(vcpu: Int, isHalted: Bool, at instant: UInt64) {
        rings[vcpu].note(isHalted, at: instant)
    }

    /// Takes all that was noted, in the order of time. One thread at a time.
    package func drain(_ body: (_ vcpu: Int, _ isHalted: Bool, _ at: UInt64) -> Void) {
        var edges: [HaltEdge] = []
        taken.withLock { swap(&$0, &edges) }
        for (vcpu, ring) in rings.enumerated() { ring.drain(vcpu, into: &edges) }
        // The overlap keeps few edges in order, and here each vCPU's are behind the others'.
        edges.sort { $0.at < $1.at }
        for edge in edges { body(edge.vcpu, edge.isHalted, edge.at) }
        edges.removeAll(keepingCapacity: true)
        taken.withLock { swap(&$0, &edges) }
    }
}

private struct HaltEdge {
    let vcpu: Int
    let isHalted: Bool
    let at: UInt64
}

/// Edges of one vCPU: its thread writes, one other reads.
private final class HaltRing: Sendable {
    /// What the writer noted last. Relaxed: only the writer's.
    private enum State: UInt8, AtomicRepresentable { case running, halted, haltedUnnoted }
    private let state = Atomic(State.running)
    /// Instants, shifted by one; the lowest bit says whether it halts. Ordered by `written` and `read`.
    private let edges = InlineArray<256, Atomic<UInt64>> { _ in Atomic(0) }
    /// Edges ever written, by the writer. Releasing: who sees the count sees the edges.
    private let written = Atomic<Int>(0)
    /// Edges ever read, by the reader. Releasing: who sees the count may write over them.
    private let read = Atomic<Int>(0)
    /// By the writer. Relaxed: it orders nothing.
    let droppedCount = Atomic<UInt64>(0)

    func note(_ isHalted: Bool, at instant: UInt64) {
        switch (state.load(ordering: .relaxed), isHalted) {
        case (.running, false), (.halted, true), (.haltedUnnoted, true): break
        case (.running, true):
            let taken = written.load(ordering: .relaxed) - read.load(ordering: .acquiring)
            // Room for its end as well: a vCPU whose end found none would count as halted for good.
            guard taken + 2 <= VCPUHalts.edgeCapacity else {
                droppedCount.add(1, ordering: .relaxed)
                return state.store(.haltedUnnoted, ordering: .relaxed)
            }
            append(instant << 1 | 1, .halted)
        case (.halted, false): append(instant << 1, .running)
        case (.haltedUnnoted, false): state.store(.running, ordering: .relaxed)
        }
    }

    private func append(_ edge: UInt64, _ next: State) {
        let place = written.load(ordering: .relaxed)
        edges[place % VCPUHalts.edgeCapacity].store(edge, ordering: .relaxed)
        written.store(place + 1, ordering: .releasing)
        state.store(next, ordering: .relaxed)
    }

    func drain(_ vcpu: Int, into taken: inout [HaltEdge]) {
        let end = written.load(ordering: .acquiring)
        let start = read.load(ordering: .relaxed)
        guard start < end else { return }
        for place in start..<end {
            let edge = edges[place % VCPUHalts.edgeCapacity].load(ordering: .relaxed)
            taken.append(HaltEdge(vcpu: vcpu, isHalted: edge & 1 == 1, at: edge >> 1))
        }
        read.store(end, ordering: .releasing)
    }
}
