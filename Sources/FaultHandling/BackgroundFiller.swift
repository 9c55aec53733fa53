internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Places pages that nobody waits for: those of traces in their order, then all that is missing.
struct BackgroundFiller: ~Copyable {
    private let core: FaultCore
    private var delivery: PageDelivery
    /// Whether `fill` came past pages that somebody else served just then.
    private var hasPassedServed = false
    private var pauseNanoseconds = Self.pauseNanosecondsMin

    /// The first and the last pause before `fill` looks again for what others served; doubled in between. A
    /// provider answers in a millisecond or in many.
    private static let pauseNanosecondsMin: UInt64 = 500_000
    private static let pauseNanosecondsMax: UInt64 = 50_000_000

    init(_ core: FaultCore, gate: Int) {
        self.core = core
        let largest = core.memory.regions.map { $0.pageBytes() }.max() ?? 0
        delivery = PageDelivery(
            core, gate: gate, capacityBytes: max(largest, core.options.backgroundBytes))
    }

    mutating func run() {
        let core = core
        var poller = Poller(capacity: 2)
        poller.watch(core.ending)
        poller.watch(core.background.flag)
        while !core.isEnding {
            core.background.flag.clear()
            while !core.isEnding, let next = core.background.next(countMax: core.pagesAtOnce) {
                switch next {
                case .pages(let pages): place(pages)
                case .rest(let from): placeRest(from)
                }
            }
            core.background.rest()
            _ = poller.wait(timeoutNanoseconds: .max)
        }
    }

    /// Places the next missing run from here on.
    private mutating func placeRest(_ from: HostPage) {
        var (block, first) = (from.block, from.page)
        while block.rawValue < core.memory.regions.count {
            if let run = core.ledger.nextMissing(from: first, of: block) {
                let start = HostPage(block: block, page: run.lowerBound)
                let count = min(
                    core.pagesAtOnce(start), run.upperBound.rawValue - run.lowerBound.rawValue)
                let end = run.lowerBound.rawValue + count
                place(
                    (run.lowerBound.rawValue..<end).map {
                        HostPage(block: block, page: HostPageIndex(rawValue: $0))
                    })
                let next = HostPage(block: block, page: HostPageIndex(rawValue: end))
                return core.background.setRest(next, after: from)
            }
            block = BlockIndex(rawValue: block.rawValue + 1)
            first = HostPageIndex(rawValue: 0)
        }
        guard hasPassedServed else {
            pauseNanoseconds = Self.pauseNanosecondsMin
            return core.background.setRest(nil, after: from)
        }
        // Done when they are, too.
        hasPassedServed = false
        _ = core.ending.wait(timeoutNanoseconds: pauseNanoseconds)
        pauseNanoseconds = min(2 * pauseNanoseconds, Self.pauseNanosecondsMax)
        core.background.setRest(.first, after: from)
    }

    /// Places pages that follow each other, but for those that are done with or served just now.
    private mutating func place(_ pages: [HostPage]) {
        var run: [HostPage] = []
        for page in pages {
            let claim = core.ledger.claimUnasked(page)
            if case .claimed = claim {
                guard core.ledger.isSettled(page) else {
                    run.append(page)
                    continue
                }
                core.letGo(page)
            }
            if case .served = claim { hasPassedServed = true }
            placeClaimed(run)
            run.removeAll(keepingCapacity: true)
        }
        placeClaimed(run)
    }

    private mutating func placeClaimed(_ run: [HostPage]) {
        guard let first = run.first, let last = run.last else { return }
        defer { for page in run { core.letGo(page) } }
        let end = HostPageIndex(rawValue: last.page.rawValue + 1)
        guard
            case .failed(let problem) = delivery.deliver(
                first.page..<end, of: first.block, isUrgent: false)
        else { return }
        core.account.withLock { $0.backgroundProblem = problem }
        guard run.count > 1 else { return }
        // One page that cannot be read must not keep its neighbours away.
        for page in run {
            let next = HostPageIndex(rawValue: page.page.rawValue + 1)
            _ = delivery.deliver(page.page..<next, of: page.block, isUrgent: false)
        }
    }
}

extension FaultCore {
    /// How many pages like this one the background reads at once.
    fileprivate func pagesAtOnce(_ page: HostPage) -> Int {
        max(1, options.backgroundBytes / memory.regions[page.block.rawValue].pageBytes())
    }
}
