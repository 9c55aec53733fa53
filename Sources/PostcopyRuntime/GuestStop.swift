internal import LinuxKernel
internal import Synchronization

/// A guest that is asked to stop, on a thread of its own (`pc-pause`): one that never does must not
/// take the migration's threads with it.
final class GuestStop: Sendable {
    private enum Stage { case underWay, done, unwanted, undone }

    /// Written by the thread when the guest has stopped, and by whoever does not wait for it any more.
    private let stage = Mutex(Stage.underWay)
    private let begunAt = Atomic<UInt64>(0)

    /// Has `guest` pause, and raises `flag` once it has.
    /// - Throws: `EAGAIN` when the process may have no more threads.
    init(of guest: any Guest, raising flag: EventFlag) throws(Errno) {
        let thread = try JoinableThread<Void>(name: "pc-pause") { [self] in
            // The guest stands still from here on, however busy the host is.
            preferShortSlices()
            begunAt.store(Monotonic.now(), ordering: .relaxed)
            guest.pause()
            let isWanted = stage.withLock { stage in
                guard stage == .underWay else { return false }
                stage = .done
                return true
            }
            if !isWanted {
                guest.resume()
                stage.withLock { $0 = .undone }
            }
            flag.raise()
        }
        thread.detach()
    }

    /// Whether the guest has stopped.
    var isStopped: Bool { stage.withLock { $0 == .done } }

    /// Whether it is still stopping, though nobody wants that any more.
    var isUnwanted: Bool { stage.withLock { $0 == .unwanted } }

    /// When it was asked to.
    var begunAtNanoseconds: UInt64 { begunAt.load(ordering: .relaxed) }

    /// Does not want it stopped any more.
    /// - Returns: whether it has stopped, so that the caller lets it run; otherwise it is let run as soon
    ///   as it has.
    func undoes() -> Bool {
        stage.withLock { stage in
            guard stage != .done else { return true }
            if stage == .underWay { stage = .unwanted }
            return false
        }
    }
}
