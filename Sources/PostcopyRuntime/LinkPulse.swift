internal import LinuxKernel

/// Whether a link between two ends of ours is up, as the thread at its return path sees it, and when
/// that thread must show that it is. Instants in monotonic nanoseconds.
struct LinkPulse {
    private(set) var limitNanoseconds: UInt64
    private let beatNanoseconds: UInt64
    var heardAt: UInt64 = 0
    /// When the urgent channel was last written.
    var wroteAt: UInt64 = 0
    private(set) var isWatching = false
    private var beats = false

    init(state: SourceState) {
        limitNanoseconds = state.options.linkLimitInForce
        beatNanoseconds = state.beatNanoseconds
    }

    /// From here on silence means that the link has broken.
    mutating func watch(from now: UInt64) {
        heardAt = now
        isWatching = true
    }

    /// How long silence may last from here on.
    mutating func limit(to nanoseconds: UInt64) { limitNanoseconds = nanoseconds }

    /// From here on the urgent channel must not be silent.
    mutating func beginBeat(at now: UInt64) {
        wroteAt = now
        beats = true
    }

    mutating func endBeat() { beats = false }

    /// How long nothing need be done when nothing comes.
    var waitNanoseconds: UInt64 {
        guard isWatching || beats else { return .max }
        let now = Monotonic.now()
        let late = isWatching ? heardAt + min(limitNanoseconds, .max - heardAt) : .max
        let due = beats ? wroteAt + beatNanoseconds : .max
        return max(min(late, due), now) - now
    }

    func isLate(at now: UInt64) -> Bool {
        isWatching && now > heardAt && now - heardAt >= limitNanoseconds
    }

    func isBeatDue(at now: UInt64) -> Bool {
        beats && now > wroteAt && now - wroteAt >= beatNanoseconds
    }
}
