internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Reads faults when it is its turn, and serves their pages, one after the other.
struct FaultWorker: ~Copyable {
    private let core: FaultCore
    /// Its number among the workers, and its gate.
    private let number: Int
    private var delivery: PageDelivery

    /// How often a worker that has nothing to do looks whether the other process lives, which nothing
    /// tells: as long as a person does not notice; a look costs a microsecond.
    private static let lookNanoseconds: UInt64 = 100_000_000

    init(_ core: FaultCore, number: Int) {
        self.core = core
        self.number = number
        let largest = core.memory.regions.map { $0.pageBytes() }.max() ?? 0
        delivery = PageDelivery(core, gate: number, capacityBytes: largest)
    }

    mutating func run() {
        preferShortSlices()
        while !core.isEnding {
            if let page = core.desk.take() {
                let start = core.turns.beginServing(number)
                serve(page)
                core.turns.endServing(number, since: start)
            } else if core.turns.tryLead(number) {
                lead()
            } else {
                core.turns.standBy()
            }
        }
    }

    /// Waits for events and reads them.
    private func lead() {
        switch core.turns.awaitEvents(
            timeoutNanoseconds: core.memory.isForeign ? Self.lookNanoseconds : .max)
        {
        case .events: core.takeEvents()
        case .pages, .turn, .alarm, .end: break
        case nil:
            if core.memory.isOwnerGone { core.fail(.ownerGone) }
        }
    }

    /// Serves a page that was claimed when its fault was read.
    private mutating func serve(_ page: HostPage) {
        defer { core.letGo(page) }
        if core.ledger.isFirstDoubt(page) { return core.wake(page) }
        var attempt = 1
        while true {
            switch delivery.deliver(page) {
            case .done, .over: return
            case .failed(let problem):
                guard attempt < core.options.attempts else {
                    return delivery.lose(page, problem)
                }
                let pause = core.options.pauseNanoseconds << UInt64(2 * min(attempt - 1, 8))
                if core.ending.wait(timeoutNanoseconds: min(pause, 1_000_000_000)) { return }
                attempt += 1
            }
        }
    }
}

extension FaultCore {
    /// Lets go of a page that was claimed. Whoever faulted in it meanwhile may have missed the placing, or
    /// have come after the page was given up again: it looks once more.
    func letGo(_ page: HostPage) {
        if ledger.release(page) { wake(page) }
    }

    /// Whoever waits for the page goes on, and faults again when it is missing.
    func wake(_ page: HostPage) {
        // Refused only for a range that is none.
        try? memory.uffd.wake(page.page, of: memory.regions[page.block.rawValue])
        account.withLock { $0.close(page, at: Monotonic.now()) }
    }
}
