internal import LinuxKernel

/// Until when a destination that has paused expects the source by itself. A QEMU comes when somebody
/// tells it to, and one that was paused by hand lets nobody in.
struct SourcePatience {
    private let deadlineNanoseconds: UInt64?

    init(_ state: DestinationState, isHeld: Bool) {
        let options = state.options.recovery
        let comesByItself = options.mode == .automatic && state.isSourceOurs && !isHeld
        let now = Monotonic.now()
        deadlineNanoseconds =
            comesByItself ? now &+ min(options.lastingNanoseconds, .max - now) : now
        state.recovery.update { $0.waitsForSomebody = false }
    }

    var leftNanoseconds: UInt64 {
        guard let deadlineNanoseconds else { return .max }
        let now = Monotonic.now()
        return now < deadlineNanoseconds ? deadlineNanoseconds - now : .max
    }

    func look(_ state: DestinationState) {
        guard let deadlineNanoseconds, Monotonic.now() >= deadlineNanoseconds else { return }
        state.recovery.update { $0.waitsForSomebody = true }
    }
}
