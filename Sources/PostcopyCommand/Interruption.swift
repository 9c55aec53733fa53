internal import Postcopy
internal import Foundation
internal import Glibc
internal import Synchronization

/// Ctrl-C and SIGTERM: counted by a signal handler, heeded once each by whoever works just then, also
/// when nobody had begun to look.
enum Interruption {
    static let exitStatus: Int32 = 130

    /// Relaxed: a number that only grows, read by one thread.
    private static let count = Atomic<Int>(0)
    /// How many somebody has acted on. Relaxed: used by the main thread.
    private static let heeded = Atomic<Int>(0)

    /// Catches both signals from now on. A reader of our output that goes away shows as an error
    /// of the write instead of ending the process.
    static func install() {
        // The handler must find the counter made: its first use would make it.
        _ = count.load(ordering: .relaxed)
        signal(SIGINT) { _ in Interruption.raise() }
        signal(SIGTERM) { _ in Interruption.raise() }
        signal(SIGPIPE, SIG_IGN)
        SwitchRequest.install()
        // A parent that started us from a thread with blocked signals left them blocked here.
        SignalMask.unblock([SIGINT, SIGTERM])
    }

    /// For a command that leaves nothing behind: these signals end it as they would without this program.
    static func leaveToSystem() {
        for number in [SIGINT, SIGTERM, SIGPIPE] { signal(number, SIG_DFL) }
    }

    static func raise() { count.add(1, ordering: .relaxed) }

    static var wasAsked: Bool { count.load(ordering: .relaxed) > 0 }

    /// Somebody asked, and nobody has acted on it yet.
    static var isWaiting: Bool {
        count.load(ordering: .relaxed) > heeded.load(ordering: .relaxed)
    }

    /// Takes what waits on oneself; answers whether anything did.
    static func heed() -> Bool {
        let asked = count.load(ordering: .relaxed)
        return heeded.exchange(asked, ordering: .relaxed) < asked
    }

    /// Treats the end of standard input as a request to stop: the process that started this one
    /// closes it, or is gone.
    static func followStandardInput() {
        Thread.detachNewThread {
            while let data = try? FileHandle.standardInput.read(upToCount: 4096), !data.isEmpty {}
            raise()
        }
    }
}

/// SIGUSR1: the workload shall move now.
enum SwitchRequest {
    /// Relaxed: a flag that one thread looks at.
    private static let isMade = Atomic(false)

    static func install() {
        _ = isMade.load(ordering: .relaxed)
        signal(SIGUSR1) { _ in SwitchRequest.isMade.store(true, ordering: .relaxed) }
        SignalMask.unblock([SIGUSR1])
    }

    /// Takes the request; answers whether there was one.
    static func heed() -> Bool { isMade.exchange(false, ordering: .relaxed) }
}

/// What must be removed however the process ends.
final class Leftovers: Sendable {
    private let removals = Mutex<[@Sendable () -> Void]>([])

    func add(_ removal: @escaping @Sendable () -> Void) {
        removals.withLock { $0.append(removal) }
    }

    /// Removes what was added, the latest first; a second call has nothing to do.
    func remove() {
        let waiting = removals.withLock { removals in
            defer { removals = [] }
            return removals
        }
        for removal in waiting.reversed() { removal() }
    }

    /// Ends the process where nothing can be waited for any more.
    func removeAndExit(_ status: Int32) -> Never {
        remove()
        Glibc._exit(status)
    }
}
