internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Where the workers wait, and where faulted pages lie until one of them takes them.
///
/// A fault wakes one worker that is free, which reads it and serves it itself: no page is handed from one
/// thread to another unless several are read at once.
final class FaultDesk: Sendable {
    /// What a worker is woken for.
    enum Call: UInt32 {
        case events = 1
        case pages = 2
        case end = 3
    }

    let isEnding = Atomic(false)
    /// The handler's own threads, by the kernel's ids.
    let threads = Mutex<Set<Int32>>([])
    private let poller: SharedPoller
    private let pagesLeft: EventFlag
    /// Claimed pages, each once, the oldest at `first`: no more than threads that wait.
    private let queue = Mutex(Queue())

    private struct Queue {
        var pages: [HostPage] = []
        var first = 0
    }

    init(_ uffd: borrowing Userfaultfd, ending: EventFlag) throws(Errno) {
        poller = try SharedPoller()
        pagesLeft = try EventFlag()
        try poller.watch(uffd, as: Call.events.rawValue)
        try poller.watchRaises(of: pagesLeft, as: Call.pages.rawValue)
        try poller.watch(ending, as: Call.end.rawValue)
    }

    /// Waits for something to do; `nil` when the time ran out.
    func wait(timeoutNanoseconds: UInt64) -> Call? {
        poller.wait(timeoutNanoseconds: timeoutNanoseconds).flatMap(Call.init)
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
