import MigrationCore
import PageModel

/// The core's queue of page requests beside a plain list of what must be in it.
///
/// The capacity is the queue's own: the product's, or in most seeds one so small that it is full now and
/// then, which a guest of this size never makes of the product's.
struct WatchedQueue: ~Copyable {
    private let world: World
    private var queue: PageRequestQueue
    private var due: [HostPage] = []

    init(_ world: World, capacity: Int) {
        self.world = world
        queue = PageRequestQueue(capacity: capacity)
    }

    mutating func push(_ page: HostPage) -> PageRequestQueue.Outcome {
        let outcome = queue.push(page)
        if outcome == .queued { due.append(page) }
        if due.count > queue.capacity || queue.count > queue.capacity {
            world.fail(
                "bounded queues stay bounded",
                "\(due.count) pages were taken by a queue of \(queue.capacity)")
        }
        if queue.count != due.count || !queue.contains(page) != (outcome == .full) {
            world.fail(
                "the queue holds what it took", "\(queue.count) of \(due.count) pages: \(outcome)")
        }
        return outcome
    }

    mutating func pop() -> HostPage? {
        let page = queue.pop()
        let oldest = due.isEmpty ? nil : due.removeFirst()
        if page != oldest {
            world.fail("the queue holds what it took", "a page that is not the oldest came out")
        }
        return page
    }
}
