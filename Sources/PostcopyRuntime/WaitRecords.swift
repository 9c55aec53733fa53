internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel

/// The records of a destination's waits, from their beginnings on. A class, so that the account of waits
/// can tell it of an end while it is at work itself; one thread owns both.
final class WaitRecords {
    private let counters: WaitCounters
    private let areKept: Bool
    /// By the slots of the account; `read` is 0 where no wait is open.
    private var open = [WaitRecord](repeating: WaitRecord(), count: Blocktime.waiterCapacity)
    /// Slots whose page's request goes out with the next write.
    private var unasked: [Int] = []
    private var ring: FlightRing<WaitRecord>
    private var vcpuThreads: [Int32] = []
    private var names: [Int32: String] = [:]

    /// A guest of 4 GiB waits some 20,000 times: six times that, in 8 MiB.
    private static let capacity = 1 << 17

    init(counters: WaitCounters, areKept: Bool) {
        self.counters = counters
        self.areKept = areKept
        ring = FlightRing(capacity: areKept ? Self.capacity : 1)
        unasked.reserveCapacity(Blocktime.waiterCapacity)
    }

    func noteVCPUs(_ threads: [Int32]) {
        vcpuThreads = threads
        for thread in threads { names[thread] = ThreadName.of(thread) }
    }

    func begin(
        _ slot: Int, thread: Int32, _ page: HostPage, began: UInt64, readAt: UInt64,
        isKernelTimed: Bool
    ) {
        guard areKept else { return }
        var record = WaitRecord()
        record.began = began
        record.read = readAt
        record.page = UInt64(page.page.rawValue)
        record.thread = thread
        record.block = UInt16(truncatingIfNeeded: page.block.rawValue)
        if isKernelTimed { record.flags.insert(.kernelTimed) }
        open[slot] = record
    }

    func mark(_ slot: Int, _ flags: WaitFlags) { open[slot].flags.insert(flags) }

    func awaitWrite(_ slot: Int) { if areKept { unasked.append(slot) } }

    func awaitWriteOfAll() { unasked = open.indices.filter { open[$0].read > 0 } }

    func noteWrite(at now: UInt64) {
        for slot in unasked where open[slot].read > 0 { open[slot].requested = now }
        unasked.removeAll(keepingCapacity: true)
    }

    /// - Parameter arrival: how the page came that ended it; `nil` where something else did.
    func end(_ ended: EndedWait, _ arrival: WaitAccount.Arrival? = nil) {
        counters.note(ended.ended - ended.began)
        if ended.vcpu == nil { learnName(of: ended.thread) }
        guard areKept else { return }
        var record = open[ended.slot]
        open[ended.slot].read = 0
        record.ended = ended.ended
        switch arrival {
        case .urgent(let firstByteAt):
            record.firstByte = firstByteAt
            record.flags.insert(.urgent)
        case .early: record.flags.insert(.present)
        case .background, nil: break
        }
        switch ended.how {
        case .placed: record.placed = ended.ended
        case .moved: record.flags.insert(.moved)
        case .unfinished: record.flags.insert(.unfinished)
        }
        ring.append(record)
    }

    /// Threads that are no vCPU are named when they are met, as many as have an account of their own.
    private func learnName(of thread: Int32) {
        guard names[thread] == nil,
            names.count < vcpuThreads.count + BlocktimeReport.otherThreadsMax
        else { return }
        names[thread] = ThreadName.of(thread) ?? ""
    }

    func conclude(_ report: BlocktimeReport, clockProblem: String?) -> WaitAccount.Outcome {
        let (records, lostCount) = ring.drain()
        return WaitAccount.Outcome(
            blocktime: report, records: records, lostCount: lostCount, vcpuThreads: vcpuThreads,
            threadNames: names, clockProblem: clockProblem)
    }
}
