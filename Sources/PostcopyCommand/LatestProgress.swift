internal import Synchronization
internal import TestWorkload

/// The newest word of the threads that fill or verify, for the thread that draws.
final class LatestProgress: Sendable {
    private let latest = Mutex<WorkloadProgress?>(nil)

    func set(_ progress: WorkloadProgress) { latest.withLock { $0 = progress } }

    var value: Progress? {
        guard let progress = latest.withLock({ $0 }) else { return nil }
        let phase =
            switch progress.phase {
            case .filling: "filling"
            case .replaying: "replaying"
            case .comparing: "comparing"
            }
        let total = max(1, progress.total)
        return Progress(phase: phase, fraction: Double(progress.done) / Double(total))
    }
}
