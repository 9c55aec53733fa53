package import FlightRecorder
package import LinuxKernel
package import MigrationCore
package import PageModel
internal import Synchronization

/// The waits for a destination's missing pages: how long they were, how each of them went, and what
/// progress says of them. The fault thread owns it, so that a fault meets no lock here.
package struct WaitAccount: ~Copyable {
    private let blocks: [GuestRAM]
    private let counters: WaitCounters
    private let asksKernel: Bool
    private var blocktime = Blocktime(vcpuThreads: [])
    private let halts: VCPUHalts?
    private var clock = FaultClock()
    private let records: WaitRecords
    package private(set) var knowsVCPUs = false

    /// How a page came for which somebody waits.
    package enum Arrival {
        /// Read from the urgent channel at this instant.
        case urgent(firstByteAt: UInt64)
        /// Placed by the stream's thread.
        case background
        /// It was here when the fault was read.
        case early
    }

    /// What is left of it at the end.
    package struct Outcome: Sendable {
        package var blocktime: BlocktimeReport
        package var records: [WaitRecord]
        var lostCount: UInt64
        var vcpuThreads: [Int32]
        var threadNames: [Int32: String]
        /// Why the kernel does not say when faults began; `nil` where it does, or was not asked.
        var clockProblem: String?
    }

    /// On the thread that is to own it.
    package init(
        blocks: [GuestRAM], options: MigrationOptions, counters: WaitCounters, halts: VCPUHalts?
    ) {
        self.blocks = blocks
        self.counters = counters
        self.halts = halts
        asksKernel = options.timesFaultsInKernel
        // The first clock of a host has the kernel rewrite its code, which holds up every thread for
        // milliseconds: not once the guest runs.
        if asksKernel { clock.add(thread: currentThreadID()) }
        records = WaitRecords(counters: counters, areKept: options.recordsFaults)
    }

    /// Says which threads run the vCPUs, in their order.
    /// - Parameter instant: before any of them ran.
    package mutating func noteVCPUs(_ threads: [Int32], at instant: UInt64) {
        knowsVCPUs = true
        if asksKernel { for thread in threads { clock.add(thread: thread) } }
        records.noteVCPUs(threads)
        blocktime.setVCPUThreads(threads, at: instant)
    }

    /// Notes that a thread waits for a page; answers its slot, or `nil` where it is not tracked.
    package mutating func begin(
        _ event: FaultEvent, _ page: HostPage, readAt: UInt64
    ) -> Int? {
        let addresses = blocks[page.block.rawValue].addresses(of: page.page)
        let known = clock.began(thread: event.thread, in: addresses, before: readAt)
        let began = known ?? readAt
        let records = records
        let outcome = blocktime.begin(thread: event.thread, page: page, at: began) { ended in
            records.end(ended)
        }
        switch outcome {
        case .started(let slot), .moved(let slot):
            var record = WaitRecord()
            record.began = began
            record.read = readAt
            record.page = UInt64(page.page.rawValue)
            record.thread = event.thread
            record.block = UInt16(truncatingIfNeeded: page.block.rawValue)
            if known != nil { record.flags.insert(.kernelTimed) }
            records.begin(slot, record)
            return slot
        case .alreadyWaiting(let slot): return slot
        case .untracked: return nil
        }
    }

    /// Notes that somebody has asked for a wait's page.
    package func noteJoined(_ slot: Int?) {
        if let slot { records.mark(slot, .joined) }
    }

    /// Notes that the request for a wait's page goes out with the next write.
    package func awaitWrite(_ slot: Int?) {
        if let slot { records.awaitWrite(slot) }
    }

    /// Notes that the pages of all open waits are asked for with the next write, once more or at last.
    func awaitWriteOfAll() { records.awaitWriteOfAll() }

    /// What was to go out with the next write does not.
    func forgetUnwritten() { records.forgetUnwritten() }

    /// The requests go out now.
    package func noteWrite(at now: UInt64) { records.noteWrite(at: now) }

    /// Ends every wait for a page that was placed at `instant`.
    package mutating func close(_ page: HostPage, at instant: UInt64, _ arrival: Arrival) {
        let records = records
        blocktime.placed(page: page, at: instant) { ended in
            records.end(ended, arrival)
        }
    }

    /// Tells progress how many wait, once the fault thread has done what there was.
    mutating func publish() {
        takeHalts()
        records.learnNames()
        counters.waitingVCPUs.store(blocktime.currentlyWaitingVCPUs, ordering: .relaxed)
    }

    /// Ends all waits.
    package mutating func finish() -> Outcome {
        takeHalts()
        let records = records
        let report = blocktime.finish(at: Monotonic.now()) { records.end($0) }
        counters.waitingVCPUs.store(0, ordering: .relaxed)
        return records.conclude(report, clockProblem: clock.refusal?.description)
    }

    private mutating func takeHalts() {
        // Whose halts they are is not known before; they stay where they were noted.
        guard knowsVCPUs, let halts else { return }
        var edges: [(vcpu: Int, isHalted: Bool, at: UInt64)] = []
        halts.drain { edges.append(($0, $1, $2)) }
        for edge in edges { blocktime.setHalted(vcpu: edge.vcpu, edge.isHalted, at: edge.at) }
    }
}

/// What progress says of waits. Relaxed: none of it orders anything; the fault thread alone writes.
package final class WaitCounters: Sendable {
    let waitingVCPUs = Atomic(0)
    private let nanoseconds = Atomic<UInt64>(0)
    private let buckets = InlineArray<24, Atomic<UInt64>> { _ in Atomic(0) }

    package init() {}

    func note(_ waited: UInt64) {
        nanoseconds.add(waited, ordering: .relaxed)
        buckets[LatencyBuckets.index(ofNanoseconds: waited)].add(1, ordering: .relaxed)
    }

    var waitedNanoseconds: UInt64 { nanoseconds.load(ordering: .relaxed) }

    var latency: LatencyBuckets {
        LatencyBuckets(
            counts: (0..<LatencyBuckets.bucketCount).map { buckets[$0].load(ordering: .relaxed) })
    }
}
