internal import LinuxKernel
internal import MigrationCore
internal import Synchronization

/// Holds the background's writes to a limited rate: one thread writes and waits here, and any other
/// may wake it.
///
/// The sender looks for what is more pressing than the background (a request, its end), asks for its
/// turn, writes, and notes what it wrote. Whoever brings something pressing makes it visible first and
/// wakes afterwards: a wake that comes while nobody waits ends the next wait.
final class PacedSending: Sendable {
    enum Turn: Equatable {
        /// Up to this many bytes now.
        case write(bytesMax: Int)
        /// Something may be more pressing, or the limit is another one.
        case woken
        /// The caller's time has passed, and the limit allows nothing yet.
        case early
    }

    private struct State {
        var limit: RateLimit
        var isWaiting = false
        var isWoken = false

        /// What the sender may do, and how long it must wait before.
        mutating func look() -> (delay: UInt64, turn: Turn) {
            guard !takeWake() else { return (0, .woken) }
            let delay = limit.delay(at: Monotonic.now())
            isWaiting = delay > 0
            return (delay, .write(bytesMax: limit.burstBytes))
        }

        mutating func takeWake() -> Bool {
            defer { isWoken = false }
            return isWoken
        }
    }

    /// Held for a look or a change, never while waiting.
    private let state: Mutex<State>
    /// Written for those who wait, and not yet counted towards the limit. Relaxed: a count. It lets
    /// whoever answers a fault go by without the lock.
    private let urgentBytes = Atomic<UInt64>(0)
    private let wakeFlag: EventFlag

    /// - Parameter bytesPerSecond: `nil` is no limit; not 0.
    init(bytesPerSecond: UInt64?) throws(Errno) {
        let limit = RateLimit(bytesPerSecond: bytesPerSecond, at: Monotonic.now())
        state = Mutex(State(limit: limit))
        wakeFlag = try EventFlag()
    }

    /// Waits until the sender may write, but no longer than it says, nor when it is woken.
    func awaitTurn(nanosecondsMax: UInt64) -> Turn {
        let (delay, turn) = state.withLock { $0.look() }
        guard delay > 0 else { return turn }
        let isRaised = wakeFlag.wait(timeoutNanoseconds: min(delay, nanosecondsMax))
        let isWoken = state.withLock { state in
            state.isWaiting = false
            return state.takeWake()
        }
        wakeFlag.clear()
        if isRaised || isWoken { return .woken }
        return delay <= nanosecondsMax ? turn : .early
    }

    /// Notes what the background wrote.
    func noteSent(_ bytes: Int) {
        state.withLock { state in
            countUrgent(towards: &state.limit)
            _ = state.limit.delay(afterSending: bytes, at: Monotonic.now())
        }
    }

    /// Notes what was written for somebody who waits, on whichever channel. No lock.
    func noteUrgent(_ bytes: Int) { urgentBytes.add(UInt64(bytes), ordering: .relaxed) }

    private func countUrgent(towards limit: inout RateLimit) {
        // An exchange locks the word's cache line: only when there is something to take.
        guard urgentBytes.load(ordering: .relaxed) > 0 else { return }
        limit.noteUrgent(Int(clamping: urgentBytes.exchange(0, ordering: .relaxed)))
    }

    /// Lets time pass; a wake ends it.
    func rest(nanoseconds: UInt64) {
        state.withLock { $0.isWaiting = true }
        _ = wakeFlag.wait(timeoutNanoseconds: nanoseconds)
        state.withLock { state in
            state.isWaiting = false
            _ = state.takeWake()
        }
        wakeFlag.clear()
    }

    /// Ends a wait under way, or the next one for a turn.
    func wake() {
        let isWaiting = state.withLock { state in
            // Without a limit nobody waits for a turn.
            state.isWoken = state.limit.bytesPerSecond != nil
            return state.isWaiting
        }
        if isWaiting { wakeFlag.raise() }
    }

    /// Whether there is a limit.
    var isLimited: Bool { state.withLock { $0.limit.bytesPerSecond != nil } }

    /// Changes the limit, also for a wait under way.
    func setLimit(bytesPerSecond: UInt64?) {
        if adopt(bytesPerSecond: bytesPerSecond) { interrupt() }
    }

    /// Changes the limit; answers whether a wait under way is to be interrupted for it.
    func adopt(bytesPerSecond: UInt64?) -> Bool {
        state.withLock { state in
            guard state.limit.bytesPerSecond != bytesPerSecond else { return false }
            // What came before counts, or does not, by the limit that was in force.
            countUrgent(towards: &state.limit)
            state.limit.setLimit(bytesPerSecond, at: Monotonic.now())
            return state.isWaiting
        }
    }

    /// Has a wait under way begin anew.
    func interrupt() { wakeFlag.raise() }
}
