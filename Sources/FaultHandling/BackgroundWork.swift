internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// What is to be placed although nobody waits for it.
final class BackgroundWork: Sendable {
    /// Raised when something is to be done.
    let flag: EventFlag
    /// Raised while nothing is to be done, and for good once the handler ends.
    let idle: EventFlag
    private let tasks = Mutex(Tasks())

    private struct Tasks {
        /// Each with the place of its next page.
        var traces: [(pages: [HostPage], next: Int)] = []
        /// Where `fill` stands.
        var rest: HostPage?
    }

    /// What is next.
    enum Next {
        /// These, if they are still missing.
        case pages([HostPage])
        /// Whatever is missing from here on.
        case rest(from: HostPage)
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

    /// The next pages of the oldest trace, at most `countMax` that follow each other in memory; or where
    /// `fill` stands; or `nil`.
    func next(countMax: (HostPage) -> Int) -> Next? {
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
                return .pages(Array(pages[next..<end]))
            }
            return tasks.rest.map(Next.rest)
        }
    }

    /// `fill` goes on here; `nil`: it is done. Asked again meanwhile, it begins again.
    func setRest(_ page: HostPage?, after last: HostPage) {
        tasks.withLock { tasks in
            guard tasks.rest == last else { return }
            tasks.rest = page
        }
    }

    /// Says that nothing is to be done, if that is so.
    func rest() {
        tasks.withLock { tasks in
            if tasks.traces.isEmpty, tasks.rest == nil { idle.raise() }
        }
    }
}

extension HostPage {
    static let first = HostPage(
        block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))

    fileprivate func follows(_ other: HostPage) -> Bool {
        block == other.block && page.rawValue == other.page.rawValue + 1
    }
}
