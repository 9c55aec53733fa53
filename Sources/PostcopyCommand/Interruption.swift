internal import Postcopy
internal import Foundation
internal import Glibc
internal import Synchronization

/// Ctrl-C and SIGTERM: counted by a signal handler, looked at by whoever waits.
enum Interruption {
    static let exitStatus: Int32 = 130

    /// Relaxed: a number that only grows, read by one thread.
    private static let count = Atomic<Int>(0)

    /// Catches both signals from now on. A reader of our output that goes away shows as an error
    /// of the write instead of ending the process.
    static func install() {
        // The handler must find the counter made: its first use would make it.
        _ = count.load(ordering: .relaxed)
        signal(SIGINT) { _ in Interruption.raise() }
        signal(SIGTERM) { _ in Interruption.raise() }
        signal(SIGPIPE, SIG_IGN)
        // A parent that started us from a thread with blocked signals left them blocked here.
        SignalMask.unblock([SIGINT, SIGTERM])
    }

    static func raise() { count.add(1, ordering: .relaxed) }

    static var timesAsked: Int { count.load(ordering: .relaxed) }
    static var wasAsked: Bool { timesAsked > 0 }

    /// Treats the end of standard input as a request to stop: the process that started this one
    /// closes it, or is gone.
    static func followStandardInput() {
        Thread.detachNewThread {
            while let data = try? FileHandle.standardInput.read(upToCount: 4096), !data.isEmpty {}
            raise()
        }
    }
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
