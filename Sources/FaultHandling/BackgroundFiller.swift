internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Places pages that nobody waits for: those of traces in their order, then all that is missing.
struct BackgroundFiller: ~Copyable {
    private let core: FaultCore
    private var delivery: PageDelivery
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
            var isFirst = true
            while !core.isEnding,
                let run = core.background.take(
                    countMax: core.pagesAtOnce, rest: core.nextMissing)
            {
                // There may be more for the others.
                if isFirst { core.background.flag.raise() }
                isFirst = false
                let hasPassedServed = place(run.pages)
                core.background.done(run, hasPassedServed: hasPassedServed)
            }
            guard core.background.isDueToLookAgain() else {
                pauseNanoseconds = Self.pauseNanosecondsMin
                _ = poller.wait(timeoutNanoseconds: .max)
                continue
            }
            _ = poller.wait(timeoutNanoseconds: pauseNanoseconds)
            pauseNanoseconds = min(2 * pauseNanoseconds, Self.pauseNanosecondsMax)
            core.background.lookAgain()
        }
    }

    /// Places pages that follow each other, but for those that are done with; answers whether some were
    /// left to others, who serve them just now.
    private mutating func place(_ pages: [HostPage]) -> Bool {
        var run: [HostPage] = []
        var hasPassedServed = false
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
        return hasPassedServed
    }

    private func placeClaimed(_ run: [HostPage]) {
        guard let first = run.first, let last = run.last else { return }
        defer { for page in run { core.letGo(page) } }
        guard var problem = deliver(from: first, through: last) else { return }
        // One page that cannot be had must not keep its neighbours away.
        if run.count > 1 {
            let problems = run.compactMap { deliver(from: $0, through: $0) }
            guard let last = problems.last else { return }
            problem = last
        }
        core.account.withLock { $0.backgroundProblem = problem }
    }

    /// Answers why the pages cannot be had, if they cannot.
    private func deliver(from first: HostPage, through last: HostPage) -> String? {
        let end = HostPageIndex(rawValue: last.page.rawValue + 1)
        let outcome = delivery.deliver(first.page..<end, of: first.block, isUrgent: false)
        guard case .failed(let problem) = outcome else { return nil }
        return problem
    }
}

extension FaultCore {
    /// How many pages like this one the background reads at once.
    fileprivate func pagesAtOnce(_ page: HostPage) -> Int {
        max(1, options.backgroundBytes / memory.regions[page.block.rawValue].pageBytes())
    }

    /// The first run of missing pages from here on, and where the search goes on; no page behind the last.
    fileprivate func nextMissing(from: HostPage) -> (pages: [HostPage], next: HostPage?) {
        var first = from.page
        for index in from.block.rawValue..<memory.regions.count {
            let block = BlockIndex(rawValue: index)
            let countMax = pagesAtOnce(HostPage(block: block, page: first))
            if let run = ledger.nextMissing(from: first, of: block, countMax: countMax) {
                let end = run.upperBound.rawValue
                let pages = (run.lowerBound.rawValue..<end).map {
                    HostPage(block: block, page: HostPageIndex(rawValue: $0))
                }
                return (pages, HostPage(block: block, page: HostPageIndex(rawValue: end)))
            }
            first = HostPageIndex(rawValue: 0)
        }
        return ([], nil)
    }
}
