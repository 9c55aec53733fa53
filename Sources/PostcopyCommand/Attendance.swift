internal import Postcopy

/// Does work on a thread of its own while the calling thread looks after it.
enum Attendance {
    /// Often enough for an even bar, seldom enough to cost nothing.
    static let drawNanoseconds: UInt64 = 100_000_000

    /// Runs `work` and calls `attend` every `nanoseconds` until it is done.
    static func run<Output: Sendable>(
        _ name: String, every nanoseconds: UInt64 = drawNanoseconds,
        work: @escaping @Sendable () -> Output, attend: () -> Void
    ) throws(Errno) -> Output {
        let done = try EventFlag()
        let thread = try JoinableThread(name: name) {
            defer { done.raise() }
            return work()
        }
        while !done.wait(timeoutNanoseconds: nanoseconds) { attend() }
        return thread.join()
    }

    /// Lets time pass, until somebody asks to stop.
    static func pass(_ span: TimeSpan) {
        let end = Monotonic.now() + span.nanoseconds
        while !Interruption.isWaiting {
            let now = Monotonic.now()
            guard now < end else { return }
            Monotonic.sleep(untilNanoseconds: min(end, now + drawNanoseconds))
        }
    }
}
