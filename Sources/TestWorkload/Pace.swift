/// The schedule of a vCPU with a limited rate: absolute, so that late wake-ups do not add up.
struct Pace {
    /// Steps become due together once per slice: below it the sleep costs more than the steps.
    static let sliceNanoseconds: UInt64 = 1_000_000
    /// What a vCPU may make up for after a stall, in parts of a second: 10 ms. Without the limit a
    /// vCPU that waited a second for a page would then run a second's accesses in one burst, which
    /// no guest does, and the rate would say nothing about the pressure on the link.
    static let arrearsPerSecond: UInt64 = 100
    private static let second: UInt64 = 1_000_000_000

    private let rate: UInt64
    private let arrearsMax: Int64
    /// A whole number of seconds after the start, so that nothing is rounded away.
    private var origin: UInt64
    /// Steps done or given up since `origin`; below 0 while steps from before it are due.
    private var issued: Int64 = 0

    /// - Precondition: `rate`, in steps per second, is 1...10^9.
    init(rate: UInt64, startingAt now: UInt64) {
        precondition(rate >= 1 && rate <= WorkloadSpecification.accessesPerSecondMax)
        self.rate = rate
        arrearsMax = Int64(max(1, rate / Self.arrearsPerSecond))
        origin = now
    }

    /// How many steps are due at `now` and not done.
    mutating func stepsDue(at now: UInt64) -> UInt64 {
        let elapsed = now - origin
        if elapsed >= Self.second { moveOrigin(bySeconds: elapsed / Self.second) }
        let due = Int64((now - origin) * rate / Self.second)
        issued = max(issued, due - arrearsMax)
        return UInt64(max(0, due - issued))
    }

    mutating func stepDone() { issued += 1 }

    /// Takes time out of the schedule in which the vCPU was kept from running: nothing became due.
    mutating func leaveOut(nanoseconds: UInt64) { origin += nanoseconds }

    /// How long to sleep when nothing is due: to the end of the slice, or to the next step when
    /// that is later.
    func sleepNanoseconds(from now: UInt64) -> UInt64 {
        let elapsed = now - origin
        let sliceEnd = (elapsed / Self.sliceNanoseconds + 1) * Self.sliceNanoseconds
        let nextStep = (UInt64(max(0, issued)) + 1) * Self.second + rate - 1
        return max(sliceEnd, nextStep / rate) - elapsed
    }

    /// Keeps `elapsed * rate` below 2^60. A span of 2^30 seconds, 34 years, gives up everything as
    /// well as a longer one.
    private mutating func moveOrigin(bySeconds seconds: UInt64) {
        origin += seconds * Self.second
        issued = max(issued - Int64(min(seconds, 1 << 30) * rate), -arrearsMax)
    }
}
