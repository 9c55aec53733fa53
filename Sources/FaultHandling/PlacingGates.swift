internal import Synchronization

/// Keeps pages from being placed while events are read and noted.
///
/// A worker has read old content, its user gives the page up, and the worker places what it has: nobody
/// would ever notice. So whoever places does it behind a gate of its own, together with the question
/// whether the content still holds; and whoever reads events closes all gates meanwhile. While an event
/// is unread the kernel refuses to place, and the one who gives up pages goes on only when it was read.
///
/// A gate of each thread's own costs nothing to pass, and lets threads place at once.
final class PlacingGates: Sendable {
    private let gates: [Gate]

    private final class Gate: Sendable {
        let mutex = Mutex(())
    }

    init(count: Int) { gates = (0..<count).map { _ in Gate() } }

    /// Places behind the gate of one thread.
    func placing<Result: Sendable>(_ gate: Int, _ body: () -> Result) -> Result {
        gates[gate].mutex.withLock { _ in body() }
    }

    /// Runs `body` while nobody places.
    func closed(_ body: () -> Void) { close(from: 0, body) }

    private func close(from first: Int, _ body: () -> Void) {
        guard first < gates.count else { return body() }
        gates[first].mutex.withLock { _ in close(from: first + 1, body) }
    }
}
