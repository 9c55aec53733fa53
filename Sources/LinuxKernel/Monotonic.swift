internal import Glibc

/// The clock of every measurement: nanoseconds of `CLOCK_MONOTONIC`, one for all processes of a host.
public enum Monotonic {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    public static func now() -> UInt64 {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }

    /// When `nanoseconds` from now will have passed; `.max`, which never comes, where that is beyond what
    /// is counted.
    public static func deadline(afterNanoseconds nanoseconds: UInt64) -> UInt64 {
        let (sum, isNever) = now().addingReportingOverflow(nanoseconds)
        return isNever ? .max : sum
    }

    /// Sleeps until `deadline`; returns at once when it has passed.
    public static func sleep(untilNanoseconds deadline: UInt64) {
        var limit = timespec(nanoseconds: deadline)
        while unsafe clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &limit, nil) == EINTR {}
    }
}

extension timespec {
    init(nanoseconds: UInt64) {
        self.init(
            tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    }
}
