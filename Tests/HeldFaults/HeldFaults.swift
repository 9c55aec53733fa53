internal import FlightRecorder
internal import LinuxKernel
public import MigrationCore
internal import PageModel
internal import PostcopyRuntime
internal import Synchronization
internal import TestSupport

/// Threads in real page faults that are held for as long as a plan says, and the account that the fault
/// thread would have kept of them, next to what is known to be true.
public struct HeldFaults: Sendable {
    /// By vCPU: how long each of its faults is held, one after the other, in nanoseconds.
    public var holds: [[UInt64]]
    /// What each vCPU does before each of its faults.
    public var rests: [[UInt64]]
    /// Whether a fault is held from when all vCPUs are in theirs of the same round.
    public var areTogether: Bool

    /// A plan.
    /// - Precondition: as many rests as holds, by vCPU.
    public init(holds: [[UInt64]], rests: [[UInt64]], areTogether: Bool = false) {
        precondition(holds.map(\.count) == rests.map(\.count))
        self.areTogether = areTogether
        self.holds = holds
        self.rests = rests
    }

    /// One wait as its thread and the thread that answered it saw it.
    public struct Truth: Sendable {
        /// Read before the access and behind it.
        public var start: UInt64 = 0
        public var end: UInt64 = 0
        /// When the event was read, and when the page was placed.
        public var read: UInt64 = 0
        public var placed: UInt64 = 0
    }

    /// What came of a run.
    public struct Outcome: Sendable {
        public var report: BlocktimeReport
        /// By vCPU.
        public var truths: [[Truth]]
        /// Recorded waits whose beginning the kernel timed.
        public var kernelTimedCount: Int
    }

    /// Runs the plan. Blocking: for a little longer than it says.
    /// - Parameter timesInKernel: whether the kernel is asked when each fault began.
    public func run(timesInKernel: Bool) throws -> Outcome {
        let pageBytes = HostMemory.pageSize.bytes
        let widest = holds.map(\.count).max() ?? 0
        let block = try BlockGeometry(
            name: "held.ram", lengthBytes: UInt64(holds.count * widest) * pageBytes,
            hostPage: HostMemory.pageSize)
        let ram = try GuestRAM(block, backing: .anonymous)
        let crew = try (0..<holds.count).map { vcpu in
            try HeldThread(ram, first: vcpu * widest, rests: rests[vcpu])
        }
        let uffd = try Userfaultfd.open(.userOnly)
        try uffd.register(ram)
        var desk = FaultHolder(
            ram, uffd, self, threads: crew.map { $0.thread }, widest: widest,
            timesInKernel: timesInKernel)
        for member in crew { member.go.raise() }
        let total = holds.reduce(0) { $0 + $1.count }
        try desk.serve(untilPlaced: total)
        let seen = crew.map { $0.join() }
        var outcome = desk.finish()
        for (vcpu, spans) in seen.enumerated() {
            for (index, span) in spans.enumerated() {
                outcome.truths[vcpu][index].start = span.start
                outcome.truths[vcpu][index].end = span.end
            }
        }
        return outcome
    }

    /// For how long, by these intervals, all vCPUs were blocked at once: by looking at every moment
    /// between two edges.
    public static func overlap(of intervals: [[Range<UInt64>]]) -> UInt64 {
        let edges = Set(intervals.joined().flatMap { [$0.lowerBound, $0.upperBound] }).sorted()
        var total: UInt64 = 0
        for (from, to) in zip(edges, edges.dropFirst()) {
            let areAllBlocked = intervals.allSatisfy { $0.contains { $0.contains(from) } }
            if areAllBlocked { total += to - from }
        }
        return total
    }
}

/// A thread that touches its pages one after the other.
private final class HeldThread: Sendable {
    let go: EventFlag
    private let identity = Atomic<Int32>(0)
    private let body = Mutex<JoinableThread<[LongAccess]>?>(nil)

    init(_ ram: GuestRAM, first: Int, rests: [UInt64]) throws {
        go = try EventFlag()
        let (ready, rested) = (try EventFlag(), try EventFlag())
        let thread = try JoinableThread<[LongAccess]>(name: "held") { [self] in
            identity.store(currentThreadID(), ordering: .releasing)
            ready.raise()
            go.wait()
            return rests.enumerated().map { index, rest in
                // What a vCPU does between two faults is a part of the plan.
                _ = rested.wait(timeoutNanoseconds: rest)
                let offset = UInt64(first + index) * HostMemory.pageSize.bytes
                let start = Monotonic.now()
                // A load whose word nobody looks at is none.
                precondition(ram.loadWord(at: offset) == 0, "held pages are zero")
                return LongAccess(start: start, end: Monotonic.now())
            }
        }
        let handover = Handover(thread)
        body.withLock { $0 = handover.take() }
        ready.wait()
    }

    var thread: Int32 { identity.load(ordering: .acquiring) }

    func join() -> [LongAccess] { body.withLock { $0.take() }?.join() ?? [] }
}
