internal import LinuxKernel
internal import MigrationCore
internal import StreamWire
internal import Synchronization

/// What a source's user, its control thread and its return-path thread tell each other about links
/// that break. Its lock is held for a look or a change, never while anything waits.
final class SourceRecovery: Sendable {
    /// A destination that takes a broken link up again by itself.
    struct Peer: Sendable {
        let token: MigrationToken
        let extensions: Extensions
    }

    /// What the user asked for while the link was down.
    enum Wish {
        case abandon
        /// Try nothing until somebody says so.
        case hold
        /// Try again; at other addresses, if there are any.
        case recover(at: [ChannelAddress])
    }

    private struct State {
        var peer: Peer?
        /// The link that a wish ends; `nil` while there is none, and before the guest may move.
        var link: SourceLink?
        /// From a break until pages flow again.
        var isBroken = false
        var isHeld = false
        var isAbandoned = false
        /// Until it is served: what is asked for between two links must not be lost.
        var recovers: [ChannelAddress]?
        var progress = RecoveryProgress()
    }

    /// Whether a link that breaks may come back.
    let isOffered: Bool
    private let state = Mutex(State())
    /// Wakes the control thread.
    private let flag: EventFlag

    init(isOffered: Bool, flag: EventFlag) {
        self.isOffered = isOffered
        self.flag = flag
    }

    /// `nil` when the peer is a QEMU, or has not said yet.
    var peer: Peer? { state.withLock { $0.peer } }

    func learn(_ peer: Peer) { state.withLock { $0.peer = peer } }

    var progress: RecoveryProgress { state.withLock { $0.progress } }

    var isHeld: Bool { state.withLock { $0.isHeld } }

    var isAbandoned: Bool { state.withLock { $0.isAbandoned } }
}

// The user's wishes. Threads: any.
extension SourceRecovery {
    func pause() -> Bool {
        let (link, isHeld) = state.withLock { state -> (SourceLink?, Bool) in
            guard state.link != nil || state.isBroken else { return (nil, false) }
            // A QEMU up to 7.2 crashes when the link ends by which it is being recovered.
            if state.isBroken, state.link != nil, state.peer == nil { return (nil, false) }
            state.isHeld = true
            state.recovers = nil
            return (state.link, true)
        }
        link?.end()
        if isHeld { flag.raise() }
        return isHeld
    }

    func recover(at addresses: [ChannelAddress]) -> Bool {
        let isBroken = state.withLock { state in
            guard state.isBroken else { return false }
            state.isHeld = false
            // Who says where it is, and then only that it should be tried, means the same place.
            state.recovers = addresses.isEmpty ? state.recovers ?? [] : addresses
            return true
        }
        if isBroken { flag.raise() }
        return isBroken
    }

    func abandon() -> Bool {
        let (link, isBroken) = state.withLock { state -> (SourceLink?, Bool) in
            guard state.isBroken else { return (nil, false) }
            state.isAbandoned = true
            return (state.link, true)
        }
        link?.end()
        if isBroken { flag.raise() }
        return isBroken
    }
}

// What the control thread does and learns.
extension SourceRecovery {
    /// Takes note of the link that carries the guest from here on.
    /// - Returns: whether it may be used: not when somebody paused or gave up meanwhile.
    func adopt(_ link: SourceLink) -> Bool {
        guard isOffered else { return true }
        return state.withLock { state in
            guard !state.isHeld, !state.isAbandoned else { return false }
            state.link = link
            return true
        }
    }

    func takeWish() -> Wish? {
        state.withLock { state in
            if state.isAbandoned { return .abandon }
            if state.isHeld { return .hold }
            return state.recovers.take().map { .recover(at: $0) }
        }
    }

    /// Notes that the link broke for the first time since pages flowed.
    func note(_ linkBreak: LinkBreak) {
        state.withLock { state in
            state.progress.note(linkBreak)
            state.isBroken = isOffered
        }
    }

    /// Notes that there is no link any more.
    func forgetLink() { state.withLock { $0.link = nil } }

    func noteWaiting(forSomebody waits: Bool) {
        state.withLock { $0.progress.waitsForSomebody = waits }
    }

    func noteAttempt(backOffNanoseconds: UInt64) {
        state.withLock { state in
            guard let last = state.progress.breaks.indices.last else { return }
            state.progress.breaks[last].attempts += 1
            state.progress.breaks[last].backOffNanoseconds = backOffNanoseconds
        }
    }

    func note(refusal: String) { state.withLock { $0.progress.refusal = refusal } }

    /// Notes that the link is back since `instant`.
    func noteLink(backAtNanoseconds instant: UInt64) {
        state.withLock { state in
            guard let last = state.progress.breaks.indices.last else { return }
            state.progress.breaks[last].linkBackAtNanoseconds = instant
        }
    }

    /// Notes that pages flow again.
    func noteResumed(atNanoseconds instant: UInt64) {
        state.withLock { state in
            state.isBroken = false
            state.recovers = nil
            state.progress.refusal = nil
            guard let last = state.progress.breaks.indices.last else { return }
            state.progress.breaks[last].resumedAtNanoseconds = instant
        }
    }

    /// Ends it: nothing can be asked for any more.
    /// - Parameter isPaused: if not, a break that the destination's last word has settled was none.
    func end(isPaused: Bool) {
        state.withLock { state in
            state.link = nil
            state.isBroken = false
            state.progress.waitsForSomebody = false
            guard !isPaused, let last = state.progress.breaks.last else { return }
            if last.attempts == 0, last.linkBackAtNanoseconds == nil {
                state.progress.breaks.removeLast()
                state.progress.breakCount -= 1
            }
        }
    }
}
