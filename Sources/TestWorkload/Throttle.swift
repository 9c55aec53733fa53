internal import Synchronization

/// How much of the time the vCPUs of a workload shall not run.
final class Throttle: Sendable {
    /// Relaxed: a vCPU that sees it late does some steps more.
    private let share = Atomic<Int>(0)

    /// Percent of the time, 0 to 99. Asked before each step.
    @inline(__always)
    var percent: Int { share.load(ordering: .relaxed) }

    /// - Precondition: `percent` is 0...99; at 100 a vCPU would never run again.
    func set(percent: Int) {
        precondition((0...99).contains(percent))
        share.store(percent, ordering: .relaxed)
    }
}

/// The slice of time that a throttled vCPU runs before it pauses.
struct ThrottleSlice {
    /// Source: `CPU_THROTTLE_TIMESLICE_NS` of QEMU (`cpu-throttle.c`).
    static let nanoseconds: UInt64 = 10_000_000

    private var start: UInt64

    init(startingAt now: UInt64) { start = now }

    /// How long to pause at `now`; 0 while the slice lasts.
    func pauseNanoseconds(at now: UInt64, percent: Int) -> UInt64 {
        now - start < Self.nanoseconds ? 0 : Self.pauseNanoseconds(percent: percent)
    }

    /// The shortest pause that is `percent` of itself and a slice together.
    static func pauseNanoseconds(percent: Int) -> UInt64 {
        let running = UInt64(100 - percent)
        return (nanoseconds * UInt64(percent) + running - 1) / running
    }
}
