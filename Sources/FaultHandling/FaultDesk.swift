internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Where faulted pages lie until a worker takes them.
final class FaultDesk: Sendable {
    let isEnding = Atomic(false)
    /// Raised when nobody is to be served any more.
    let ending: EventFlag
    /// The handler's own threads, by the kernel's ids.
    let threads = Mutex<Set<Int32>>([])
    /// Raised when pages are left that whoever left them does not take.
    let pagesLeft: EventFlag
    private let hasOthers: Bool
    /// Claimed pages, each once, the oldest at `first`: no more than threads that wait.
    private let queue = Mutex(Queue())

    private struct Queue {
        var pages: [HostPage] = []
        var first = 0

        mutating func take() -> (page: HostPage?, hasMore: Bool) {
            guard first < pages.count else { return (nil, false) }
            let page = pages[first]
            first += 1
            // Moving what is left costs no more than was taken.
            if 2 * first >= pages.count {
                pages.removeFirst(first)
                first = 0
            }
            return (page, first < pages.count)
        }
    }

    /// - Parameter hasOthers: whether more than one worker takes pages.
    init(hasOthers: Bool) throws(Errno) {
        self.hasOthers = hasOthers
        ending = try EventFlag()
        pagesLeft = try EventFlag()
    }

    /// Leaves pages that somebody waits for. The caller takes one itself, or calls another.
    func leave(_ pages: [HostPage]) {
        guard !pages.isEmpty else { return }
        queue.withLock { $0.pages += pages }
    }

    /// Calls somebody for what the caller has left and cannot take.
    func callAnother() { pagesLeft.raise() }

    /// Takes the page that waits longest, and calls another worker for the next one: calls that nobody has
    /// heard yet count as one, so that each who comes has to call.
    func take() -> HostPage? {
        let (page, hasMore) = queue.withLock { $0.take() }
        if hasMore, hasOthers { callAnother() }
        return page
    }
}
