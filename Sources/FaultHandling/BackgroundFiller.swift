internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Places pages that nobody waits for: those of traces in their order, then all that is missing.
struct BackgroundFiller: ~Copyable {
    private let core: FaultCore
    private var delivery: PageDelivery

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
        core.background.setRest(nil, after: from)
    }

    /// Places pages that follow each other, but for those that are done with or served just now.
    private mutating func place(_ pages: [HostPage]) {
        var run: [HostPage] = []
        for page in pages {
            if core.ledger.claimUnasked(page) {
                run.append(page)
            } else {
                placeClaimed(run)
                run.removeAll(keepingCapacity: true)
            }
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
