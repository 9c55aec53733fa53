internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// Tells C where a migration stands: nothing once `close` has returned.
@safe
final class ProgressRelay: @unchecked Sendable {
    // SAFETY: what the function and its context mean is the embedder's word (postcopy.h).
    private let tell:
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafePointer<postcopy_progress>?
        ) -> Void
    private let context: UnsafeMutableRawPointer?
    let intervalNanoseconds: UInt64
    private let callers: CallbackThreads
    private let stage = Mutex(Stage.silent)
    private let quiet: EventFlag

    private enum Stage { case silent, telling, closing, closed }

    private static let intervalNanosecondsDefault: UInt64 = 1_000_000_000

    /// `nil` where nobody asked for it.
    init?(_ options: postcopy_options, _ callers: CallbackThreads) throws(Failure) {
        guard let tell = unsafe options.on_progress else { return nil }
        let interval = unsafe options.progress_interval
        unsafe self.tell = tell
        unsafe context = options.progress_context
        intervalNanoseconds = interval == 0 ? Self.intervalNanosecondsDefault : interval
        self.callers = callers
        quiet = try coded { try EventFlag() }
    }

    /// Tells, unless it is over. One thread calls this.
    func report(_ progress: postcopy_progress) {
        guard enter(from: .silent) else { return }
        call(progress)
        let isAwaited = stage.withLock { stage in
            guard stage == .closing else {
                stage = .silent
                return false
            }
            return true
        }
        if isAwaited { quiet.raise() }
    }

    /// Tells for the last time, behind a call under way.
    func close(_ progress: postcopy_progress) {
        let isTelling = stage.withLock { stage in
            defer { stage = .closing }
            return stage == .telling
        }
        if isTelling { quiet.wait() }
        call(progress)
        stage.withLock { $0 = .closed }
    }

    private func enter(from expected: Stage) -> Bool {
        stage.withLock { stage in
            guard stage == expected else { return false }
            stage = .telling
            return true
        }
    }

    private func call(_ progress: postcopy_progress) {
        var progress = progress
        progress.size = MemoryLayout<postcopy_progress>.size
        callers.calling { unsafe tell(context, &progress) }
    }
}
