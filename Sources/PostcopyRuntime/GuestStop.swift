internal import LinuxKernel
internal import Synchronization

/// A guest that is asked to stop, on a thread of its own (`pc-pause`): one that never does must not
/// take the migration's threads with it.
final class GuestStop: Sendable {
    private enum Stage {
        case underWay, done, undone
        /// It was undone, and the guest is called no more.
        case over
    }

    private struct State {
        var stage = Stage.underWay
        var whenLeft: (@Sendable () -> Void)?
    }

    /// Written by the thread when the guest has stopped, and by whoever does not wait for it any more.
    private let state = Mutex(State())
    private let begunAt = Atomic<UInt64>(0)

    /// Has `guest` pause, and raises `flag` once it has, or runs again because nobody wanted that any more.
    /// - Throws: `EAGAIN` when the process may have no more threads.
    init(of guest: any Guest, raising flag: EventFlag) throws(Errno) {
        let thread = try JoinableThread<Void>(name: "pc-pause") { [self] in
            stop(guest)
            flag.raise()
        }
        thread.detach()
    }

    private func stop(_ guest: any Guest) {
        // The guest stands still from here on, however busy the host is.
        preferShortSlices()
        // Nobody may want it any more before this thread first runs.
        guard state.withLock({ $0.stage == .underWay }) else { return leave() }
        begunAt.store(Monotonic.now(), ordering: .relaxed)
        guest.pause()
        let isWanted = state.withLock { state in
            guard state.stage == .underWay else { return false }
            state.stage = .done
            return true
        }
        if isWanted { return }
        guest.resume()
        leave()
    }

    /// The guest is called no more.
    private func leave() {
        let body = state.withLock { state in
            state.stage = .over
            defer { state.whenLeft = nil }
            return state.whenLeft
        }
        body?()
    }

    /// Whether the guest has stopped.
    var isStopped: Bool { state.withLock { $0.stage == .done } }

    /// Whether it is still stopping, though nobody wants that any more.
    var isUnwanted: Bool { state.withLock { $0.stage == .undone } }

    /// When it was asked to.
    var begunAtNanoseconds: UInt64 { begunAt.load(ordering: .relaxed) }

    /// Does not want it stopped any more.
    /// - Returns: whether it has stopped, so that the caller lets it run; otherwise it is let run as soon
    ///   as it has.
    func undoes() -> Bool {
        state.withLock { state in
            switch state.stage {
            case .done: return true
            case .underWay: state.stage = .undone
            case .undone, .over: break
            }
            return false
        }
    }

    /// Whether the guest is called no more from here, as far as nobody waits for it to stop any more.
    var isLeft: Bool {
        switch state.withLock({ $0.stage }) {
        case .done, .over: true
        case .underWay, .undone: false
        }
    }

    /// Calls `body` once the guest is called no more from here: at once, or behind a `Guest.pause` that
    /// has not returned.
    /// - Precondition: nobody waits for it to stop any more.
    func whenLeft(_ body: @escaping @Sendable () -> Void) {
        let isLeft = state.withLock { state in
            switch state.stage {
            case .done, .over: return true
            case .underWay, .undone:
                state.whenLeft = body
                return false
            }
        }
        if isLeft { body() }
    }
}
