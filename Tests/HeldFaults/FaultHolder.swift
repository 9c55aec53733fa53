internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import PostcopyRuntime

/// Reads faults as the fault thread does, and places each page once it was held for long enough.
struct FaultHolder: ~Copyable {
    private let ram: GuestRAM
    private let uffd: Userfaultfd
    private let staging: StagingArea
    private let plan: HeldFaults
    private let widest: Int
    private var account: WaitAccount
    private var held: [(page: Int, dueAt: UInt64)] = []
    private var truths: [[HeldFaults.Truth]]

    /// A fault is answered within its hold; a thread that never comes is a fault of the test.
    private static let patienceNanoseconds: UInt64 = 60_000_000_000

    /// Why a plan was not run to its end.
    struct Overdue: Error {}

    init(
        _ ram: GuestRAM, _ uffd: consuming Userfaultfd, _ plan: HeldFaults, threads: [Int32],
        widest: Int, timesInKernel: Bool
    ) {
        self.ram = ram
        self.plan = plan
        self.widest = widest
        self.uffd = uffd
        staging = StagingArea(capacityBytes: Int(HostMemory.pageSize.bytes))
        staging.clear(at: 0, lengthBytes: staging.capacityBytes)
        truths = plan.holds.map { $0.map { _ in HeldFaults.Truth() } }
        var options = MigrationOptions()
        options.timesFaultsInKernel = timesInKernel
        account = WaitAccount(
            blocks: [ram], options: options, counters: WaitCounters(), halts: nil)
        account.noteVCPUs(threads, at: Monotonic.now())
    }

    mutating func serve(untilPlaced total: Int) throws {
        var poller = Poller(capacity: 1)
        let place = poller.watch(uffd)
        let deadline = Monotonic.now() + Self.patienceNanoseconds
        var placed = 0
        while placed < total {
            let now = Monotonic.now()
            guard now < deadline else { throw Overdue() }
            let next = min(deadline, held.map(\.dueAt).min() ?? deadline)
            _ = poller.wait(timeoutNanoseconds: next - min(next, now))
            if poller.isReady(place) { try takeFaults() }
            placed += try placeWhatIsDue()
        }
    }

    private mutating func takeFaults() throws {
        var events: [FaultEvent] = []
        _ = try uffd.readEvents { events.append($0) }
        let now = Monotonic.now()
        for event in events {
            guard let offset = ram.offset(of: event.address) else { continue }
            let page = ram.geometry.hostPage(containing: offset)
            let (vcpu, index) = page.rawValue.quotientAndRemainder(dividingBy: widest)
            truths[vcpu][index].read = now
            _ = account.begin(
                event, HostPage(block: BlockIndex(rawValue: 0), page: page), readAt: now)
            held.append(
                (page.rawValue, plan.areTogether ? .max : now + plan.holds[vcpu][index]))
        }
        guard plan.areTogether, held.count == plan.holds.count else { return }
        held = held.map { page, _ in
            let (vcpu, index) = page.quotientAndRemainder(dividingBy: widest)
            return (page, now + plan.holds[vcpu][index])
        }
    }

    private mutating func placeWhatIsDue() throws -> Int {
        let now = Monotonic.now()
        let due = held.filter { $0.dueAt <= now }
        held.removeAll { $0.dueAt <= now }
        for (number, _) in due {
            let page = HostPageIndex(rawValue: number)
            _ = try uffd.place(
                staging, lengthBytes: staging.capacityBytes, at: ram.geometry.offset(of: page),
                of: ram)
            let placedAt = Monotonic.now()
            account.close(
                HostPage(block: BlockIndex(rawValue: 0), page: page), at: placedAt, .background)
            let (vcpu, index) = number.quotientAndRemainder(dividingBy: widest)
            truths[vcpu][index].placed = placedAt
        }
        return due.count
    }

    mutating func finish() -> HeldFaults.Outcome {
        let outcome = account.finish()
        return HeldFaults.Outcome(
            report: outcome.blocktime, truths: truths,
            kernelTimedCount: outcome.records.count { $0.flags.contains(.kernelTimed) })
    }
}
