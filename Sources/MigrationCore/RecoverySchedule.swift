/// When a source whose link broke knocks again, and at which of its addresses.
///
/// It knocks at once, then waits 10 ms, twice as long after each round of all addresses, and at most a
/// second: a cable that is plugged in again is noticed within a second, and a destination that is gone
/// costs a packet a second.
public struct RecoverySchedule: Hashable, Sendable {
    /// How long the first wait is.
    public static let firstWaitNanoseconds: UInt64 = 10_000_000
    /// How long none is longer than.
    public static let waitNanosecondsMax: UInt64 = 1_000_000_000

    private let addressCount: Int
    private let deadlineNanoseconds: UInt64?
    private var waitNanoseconds = Self.firstWaitNanoseconds
    private var attempts = 0
    private var dueNanoseconds: UInt64
    /// How long the wait before the attempt that is due was.
    public private(set) var stepNanoseconds: UInt64 = 0

    /// - Parameter addressCount: at least one.
    /// - Parameter lastingNanoseconds: how long it goes on by itself; `nil`: without end.
    public init(addressCount: Int, from now: UInt64, lastingNanoseconds: UInt64?) {
        precondition(addressCount > 0, "a source knocks somewhere")
        self.addressCount = addressCount
        dueNanoseconds = now
        deadlineNanoseconds = lastingNanoseconds.map { now &+ min($0, .max - now) }
    }

    /// When the next attempt is due; `nil` once the time is up and somebody must decide.
    public var nextAttemptNanoseconds: UInt64? {
        if let deadlineNanoseconds, dueNanoseconds > deadlineNanoseconds { return nil }
        return dueNanoseconds
    }

    /// Begins the attempt that is due; answers which address it takes.
    public mutating func begin() -> Int {
        defer { attempts += 1 }
        return attempts % addressCount
    }

    /// Begins with the wait that an earlier schedule had come to, as if an attempt had failed.
    public mutating func resume(from earlier: RecoverySchedule, at now: UInt64) {
        waitNanoseconds = earlier.waitNanoseconds
        failed(at: now)
    }

    /// Notes that the attempt failed.
    public mutating func failed(at now: UInt64) {
        guard attempts % addressCount == 0 else {
            dueNanoseconds = now
            stepNanoseconds = 0
            return
        }
        dueNanoseconds = now + waitNanoseconds
        stepNanoseconds = waitNanoseconds
        waitNanoseconds = min(2 * waitNanoseconds, Self.waitNanosecondsMax)
    }
}
