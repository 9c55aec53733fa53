/// When a channel must show that its writer lives.
struct Heartbeat: Sendable {
    /// How long the channel may bring nothing.
    let limitNanoseconds: UInt64
    let intervalNanoseconds: UInt64
    private var writtenAtNanoseconds: UInt64 = 0

    init(limitNanoseconds: UInt64, intervalNanoseconds: UInt64) {
        self.limitNanoseconds = limitNanoseconds
        self.intervalNanoseconds = intervalNanoseconds
    }

    mutating func note(writtenAt instant: UInt64) { writtenAtNanoseconds = instant }

    func isDue(at now: UInt64) -> Bool { now >= writtenAtNanoseconds + intervalNanoseconds }
}
