internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// What is to be placed although nobody waits for it.
final class BackgroundWork: Sendable {
    /// Raised when something is to be done.
    let flag: EventFlag
    /// Raised while nothing is to be done.
    let idle: EventFlag
    private let tasks = Mutex(Tasks())

    private struct Tasks {
        /// Each with the place of its next page.
        var traces: [(pages: [HostPage], next: Int)] = []
        /// Where `fill` stands.
        var rest: HostPage?
        /// Threads that are placing what they were given, or wait to look again.
        var busy = 0
        /// Whether `fill` came past pages that somebody else served just then.
        var hasPassedServed = false
    }

    /// Pages that one thread is given to place.
    struct Run {
        let pages: [HostPage]
        let isOfFill: Bool
    }

    init() throws(Errno) {
        flag = try EventFlag()
        idle = try EventFlag()
        idle.raise()
    }

    func add(_ pages: [HostPage]) {
        guard !pages.isEmpty else { return }
        tasks.withLock { tasks in
            tasks.traces.append((pages, 0))
            idle.clear()
        }
        flag.raise()
    }

    func addAll() {
        tasks.withLock { tasks in
            tasks.rest = .first
            idle.clear()
        }
        flag.raise()
    }

    /// The next pages of the oldest trace, as many of `countMax` as follow each other in memory; or what
    /// `rest` finds from where `fill` stands, and where that goes on. `nil`: nothing is to be done.
    ///
    /// Whoever takes something says by `done` that it has placed it.
    func take(
        countMax: (HostPage) -> Int, rest: (HostPage) -> (pages: [HostPage], next: HostPage?)
    ) -> Run? {
        tasks.withLock { tasks in
            while let (pages, next) = tasks.traces.first {
                guard next < pages.count else {
                    tasks.traces.removeFirst()
                    continue
                }
                var end = next + 1
                let limit = min(pages.count, next + countMax(pages[next]))
                while end < limit, pages[end].follows(pages[end - 1]) { end += 1 }
                tasks.traces[0].next = end
                tasks.busy += 1
                return Run(pages: Array(pages[next..<end]), isOfFill: false)
            }
            guard let from = tasks.rest else { return nil }
            let found = rest(from)
            tasks.rest = found.next
            guard !found.pages.isEmpty else { return nil }
            tasks.busy += 1
            return Run(pages: found.pages, isOfFill: true)
        }
    }

    /// What was taken is placed, but for pages that somebody else served just then, if there were any.
    func done(_ run: Run, hasPassedServed: Bool) {
        tasks.withLock { tasks in
            tasks.busy -= 1
            if run.isOfFill, hasPassedServed { tasks.hasPassedServed = true }
        }
    }

    /// For a thread that has found nothing to do: answers whether it shall look again in a while, for what
    /// `fill` has passed over, and say so by `lookAgain`. Otherwise, when nobody has anything to do, that
    /// is told.
    func isDueToLookAgain() -> Bool {
        tasks.withLock { tasks in
            guard tasks.traces.isEmpty, tasks.rest == nil, tasks.busy == 0 else { return false }
            guard tasks.hasPassedServed else {
                idle.raise()
                return false
            }
            tasks.hasPassedServed = false
            tasks.busy += 1
            return true
        }
    }

    func lookAgain() {
        tasks.withLock { tasks in
            tasks.rest = .first
            tasks.busy -= 1
        }
        flag.raise()
    }
}

extension HostPage {
    static let first = HostPage(
        block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))

    fileprivate func follows(_ other: HostPage) -> Bool {
        block == other.block && page.rawValue == other.page.rawValue + 1
    }
}
