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
    /// Claimed pages, each once, the oldest at `first`: no more than threads that wait.
    private let queue = Mutex(Queue())

    private struct Queue {
        var pages: [HostPage] = []
        var first = 0
    }

    init() throws(Errno) {
        ending = try EventFlag()
        pagesLeft = try EventFlag()
    }

    /// Leaves pages that somebody waits for. The caller takes one itself; others are called for the rest.
    func leave(_ pages: [HostPage]) {
        guard !pages.isEmpty else { return }
        queue.withLock { $0.pages += pages }
        for _ in 1..<max(1, min(pages.count, FaultHandlerOptions.workersMax)) { pagesLeft.raise() }
    }

    /// Calls somebody for what the caller has left and cannot take.
    func callAnother() { pagesLeft.raise() }

    /// Takes the page that waits longest.
    func take() -> HostPage? {
        queue.withLock { queue in
            guard queue.first < queue.pages.count else { return nil }
            defer {
                queue.first += 1
                if queue.first == queue.pages.count {
                    queue.pages.removeAll(keepingCapacity: true)
                    queue.first = 0
                }
            }
            return queue.pages[queue.first]
        }
    }
}
