/// Who waits, and how long each did: vCPUs, other threads, and the rest of those together.
struct WaitParties: Sendable {
    private struct Account: Sendable {
        var thread: Int32
        var waits: WaitDistribution
        /// When the thread's latest wait ended: it has one at a time.
        var endedAt: UInt64 = 0
    }

    private(set) var threads: VCPUThreads
    private var vcpus: [Account] = []
    private var others: [Account] = []
    private var otherPlaces = SlotTable(capacity: BlocktimeReport.otherThreadsMax)
    private var rest = WaitDistribution(.percent)
    /// A copy shares its memory until it counts.
    private let empty = WaitDistribution(.percent)

    init(vcpuThreads: [Int32]) {
        threads = VCPUThreads(vcpuThreads)
        vcpus = vcpuThreads.map { Account(thread: $0, waits: WaitDistribution(.percent)) }
        others.reserveCapacity(BlocktimeReport.otherThreadsMax)
    }

    /// Names the vCPUs anew: their accounts go on by place, and those of places that are no more go
    /// to the rest of the threads.
    mutating func setVCPUThreads(_ list: [Int32]) {
        for gone in vcpus.dropFirst(list.count) { rest.add(gone.waits) }
        let ends = list.map(endedAt)
        let before = vcpus
        vcpus = list.indices.map { vcpu in
            Account(
                thread: list[vcpu],
                waits: vcpu < before.count ? before[vcpu].waits : WaitDistribution(.percent),
                endedAt: ends[vcpu])
        }
        threads = VCPUThreads(list)
    }

    /// For whom a wait of `thread` counts. The first threads that are no vCPUs get an account each.
    mutating func party(of thread: Int32) -> WaitParty {
        if let known = known(thread) { return known }
        guard others.count < BlocktimeReport.otherThreadsMax else { return .rest }
        otherPlaces.insert(others.count, hash: SlotTable.hash(UInt64(thread)))
        others.append(Account(thread: thread, waits: empty))
        return .other(others.count - 1)
    }

    /// Before which instant no wait of the party can begin.
    func endedAt(_ party: WaitParty) -> UInt64 {
        switch party {
        case .vcpu(let vcpu): vcpus[vcpu].endedAt
        case .other(let place): others[place].endedAt
        // Nobody remembers for each of them.
        case .rest: 0
        }
    }

    mutating func count(_ party: WaitParty, from began: UInt64, to ended: UInt64) {
        switch party {
        case .vcpu(let vcpu):
            vcpus[vcpu].waits.record(ended - began)
            vcpus[vcpu].endedAt = ended
        case .other(let place):
            others[place].waits.record(ended - began)
            others[place].endedAt = ended
        case .rest: rest.record(ended - began)
        }
    }

    var vcpuWaits: [WaitDistribution] { vcpus.map(\.waits) }

    var otherThreads: OtherThreads {
        OtherThreads(
            own: others.filter { $0.waits.totals.waitCount > 0 }
                .map { ThreadWaits(thread: $0.thread, waits: $0.waits) },
            rest: rest)
    }

    private func endedAt(_ thread: Int32) -> UInt64 { known(thread).map(endedAt) ?? 0 }

    private func known(_ thread: Int32) -> WaitParty? {
        if let vcpu = threads.index(of: thread) { return .vcpu(vcpu) }
        let hash = SlotTable.hash(UInt64(truncatingIfNeeded: thread))
        return otherPlaces.slot(hash: hash) { others[$0].thread == thread }.map { .other($0) }
    }
}
