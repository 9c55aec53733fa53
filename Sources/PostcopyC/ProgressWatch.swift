internal import CPostcopy
internal import Postcopy
internal import Synchronization

/// Tells C where a migration stands, from a thread of its own.
@safe
struct ProgressWatch: @unchecked Sendable {
    // SAFETY: what the function and its context mean is the embedder's word (postcopy.h).
    private let tell: @convention(c) (
        UnsafeMutableRawPointer?, UnsafePointer<postcopy_progress>?
    ) -> Void
    private let context: UnsafeMutableRawPointer?
    private let intervalNanoseconds: UInt64
    private let callers: CallbackThreads

    private static let intervalNanosecondsDefault: UInt64 = 1_000_000_000
    /// More looks than this would show in the guest's speed.
    private static let intervalNanosecondsMin: UInt64 = 1_000_000
    /// How soon a new status is noticed.
    private static let lookNanosecondsMax: UInt64 = 10_000_000

    /// `nil` where nobody asked for it.
    init?(_ options: postcopy_options, _ callers: CallbackThreads) {
        guard let tell = unsafe options.on_progress else { return nil }
        unsafe self.tell = tell
        unsafe context = options.progress_context
        let interval = unsafe options.progress_interval
        intervalNanoseconds = max(
            interval == 0 ? Self.intervalNanosecondsDefault : interval, Self.intervalNanosecondsMin)
        self.callers = callers
    }

    /// Runs a migration and tells of it meanwhile. A process that has no thread left runs it untold.
    func watching<Report>(
        _ progress: @escaping @Sendable () -> postcopy_progress, _ run: () -> Report
    ) -> Report {
        guard let ended = try? EventFlag(),
            let thread = try? JoinableThread(
                name: "pc-progress", { watch(progress, until: ended) })
        else { return run() }
        let report = run()
        ended.raise()
        thread.join()
        return report
    }

    private func watch(
        _ progress: () -> postcopy_progress, until ended: EventFlag
    ) {
        var told = progress()
        tell(told)
        var due = dueNanoseconds
        let look = min(intervalNanoseconds, Self.lookNanosecondsMax)
        while !ended.wait(timeoutNanoseconds: look) {
            let current = progress()
            guard current.status != told.status || Monotonic.now() >= due else { continue }
            told = current
            tell(told)
            due = dueNanoseconds
        }
        tell(progress())
    }

    /// When the next word is due if nothing changes; an interval without end is never over.
    private var dueNanoseconds: UInt64 {
        let now = Monotonic.now()
        return now + min(intervalNanoseconds, .max - now)
    }

    private func tell(_ progress: postcopy_progress) {
        var progress = progress
        progress.size = MemoryLayout<postcopy_progress>.size
        callers.calling { unsafe tell(context, &progress) }
    }
}
