internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel

/// The records of a destination's waits, from their beginnings on. A class, so that the account of waits
/// can tell it of an end while it is at work itself; one thread owns both.
final class WaitRecords {
    private let counters: WaitCounters
    private let areKept: Bool
    /// In one piece: each look at a class's variable is checked for others at it.
    private var kept: KeptWaits
    private var vcpuThreads: [Int32] = []
    /// Empty for a thread that was gone when it was looked at.
    private var names: [Int32: String] = [:]
    private var unnamed: [Int32] = []

    /// A guest of 4 GiB waits some 20,000 times: six times that, in 8 MiB.
    private static let capacity = 1 << 17

    init(counters: WaitCounters, areKept: Bool) {
        self.counters = counters
        self.areKept = areKept
        kept = KeptWaits(capacity: areKept ? Self.capacity : 1)
    }

    func noteVCPUs(_ threads: [Int32]) {
        vcpuThreads = threads
        for thread in threads { names[thread] = ThreadName.of(thread) }
    }

    func begin(_ slot: Int, _ record: WaitRecord) {
        if areKept { kept.open[slot] = record }
    }

    func mark(_ slot: Int, _ flags: WaitFlags) { kept.open[slot].flags.insert(flags) }

    func awaitWrite(_ slot: Int) { if areKept { kept.unasked.append(slot) } }

    func forgetUnwritten() { kept.unasked.removeAll(keepingCapacity: true) }

    func awaitWriteOfAll() { kept.awaitWriteOfAll() }

    func noteWrite(at now: UInt64) { if areKept { kept.noteWrite(at: now) } }

    /// - Parameter arrival: how the page came that ended it; `nil` where something else did.
    func end(_ ended: EndedWait, _ arrival: WaitAccount.Arrival? = nil) {
        counters.note(ended.ended - ended.began)
        if ended.vcpu == nil, names[ended.thread] == nil { unnamed.append(ended.thread) }
        if areKept { kept.end(ended, arrival) }
    }

    /// Learns what threads are called that waited and are no vCPU, as many as have an account of their
    /// own. /proc takes a while: not before who waits is served.
    func learnNames() {
        guard !unnamed.isEmpty else { return }
        for thread in unnamed
        where names[thread] == nil
            && names.count < vcpuThreads.count + BlocktimeReport.otherThreadsMax
        { names[thread] = ThreadName.of(thread) ?? "" }
        unnamed.removeAll(keepingCapacity: true)
    }

    func conclude(_ report: BlocktimeReport, clockProblem: String?) -> WaitAccount.Outcome {
        learnNames()
        let (records, lostCount) = kept.ring.drain()
        return WaitAccount.Outcome(
            blocktime: report, records: records, lostCount: lostCount, vcpuThreads: vcpuThreads,
            threadNames: names.filter { !$0.value.isEmpty }, clockProblem: clockProblem)
    }
}

/// Records of waits that last, and the latest of those that are over.
private struct KeptWaits: ~Copyable {
    /// By the slots of the account; `read` is 0 where no wait is open.
    var open = [WaitRecord](repeating: WaitRecord(), count: Blocktime.waiterCapacity)
    /// Slots whose page's request goes out with the next write.
    var unasked: [Int] = []
    var ring: FlightRing<WaitRecord>

    init(capacity: Int) {
        ring = FlightRing(capacity: capacity)
        unasked.reserveCapacity(Blocktime.waiterCapacity)
    }

    mutating func awaitWriteOfAll() { unasked = open.indices.filter { open[$0].read > 0 } }

    mutating func noteWrite(at now: UInt64) {
        guard !unasked.isEmpty else { return }
        for slot in unasked where open[slot].read > 0 {
            if open[slot].requested == 0 {
                open[slot].requested = now
            } else {
                open[slot].flags.insert(.requestedAgain)
            }
        }
        unasked.removeAll(keepingCapacity: true)
    }

    mutating func end(_ ended: EndedWait, _ arrival: WaitAccount.Arrival?) {
        var record = open[ended.slot]
        open[ended.slot].read = 0
        // Not before the thread's wait before, whose end is noted a moment late.
        record.began = ended.began
        record.ended = ended.ended
        switch arrival {
        case .urgent(let firstByteAt):
            record.firstByte = firstByteAt
            record.flags.insert(.urgent)
        // Who had asked before waited for what was on its way.
        case .early where record.requested == 0 && !record.flags.contains(.joined):
            record.flags.insert(.present)
        case .early: break
        case .background, nil: break
        }
        switch ended.how {
        case .placed: record.placed = ended.ended
        case .moved: record.flags.insert(.moved)
        case .unfinished: record.flags.insert(.unfinished)
        }
        ring.append(record)
    }
}
