internal import Postcopy
internal import Synchronization

/// The threads that are inside a callback just now: what waits for them must not be waited for
/// there.
final class CallbackThreads: Sendable {
    private let threads = Mutex<[Int32]>([])

    /// Runs a callback.
    func calling<Result>(_ body: () -> Result) -> Result {
        let thread = currentThreadID()
        threads.withLock { $0.append(thread) }
        defer {
            threads.withLock { threads in
                if let place = threads.lastIndex(of: thread) { threads.remove(at: place) }
            }
        }
        return body()
    }

    /// Refuses what blocks until the callback that calls it has returned.
    func refuseBlocking(_ name: String) throws(Failure) {
        let thread = currentThreadID()
        guard !threads.withLock({ $0.contains(thread) }) else {
            throw .wrongState(
                "\(name) was called from a callback, and would wait for that callback to return")
        }
    }
}
