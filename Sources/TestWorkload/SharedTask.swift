internal import LinuxKernel
internal import Synchronization

/// How far a long task over memory has come.
public struct WorkloadProgress: Equatable, Sendable {
    public enum Phase: Equatable, Sendable {
        /// Writing the initial content; counted in pages.
        case filling
        /// Recomputing the writes; counted in steps.
        case replaying
        /// Comparing memory with the model; counted in pages.
        case comparing
    }

    public let phase: Phase
    public let done: UInt64
    public let total: UInt64
}

/// Is called on the threads that work, once per 16 MiB or 2^20 steps, and may be called by two at
/// once. It must not control the workload.
public typealias WorkloadProgressHandler = @Sendable (WorkloadProgress) -> Void

/// A range of pieces that several threads take from until none is left.
enum SharedTask {
    /// Runs `body` for every piece in `0..<pieces`, each once, on `threads` threads of which the
    /// caller is one; returns when all are done.
    ///
    /// A thread that the kernel does not give costs only time: the others take its pieces.
    static func run(
        pieces: Int, threads: Int, _ body: @escaping @Sendable (Int) -> Void
    ) {
        let queue = Queue()
        let work: @Sendable () -> Void = {
            while let piece = queue.next(below: pieces) { body(piece) }
        }
        share(work, among: min(threads, pieces))
    }

    private static func share(_ work: @escaping @Sendable () -> Void, among threads: Int) {
        guard threads > 1 else { return work() }
        do throws(Errno) {
            let thread = try JoinableThread(name: "pc-model") { work() }
            share(work, among: threads - 1)
            thread.join()
        } catch {
            work()
        }
    }

    private final class Queue: Sendable {
        /// Relaxed: only the uniqueness of the numbers matters; results travel by `join`.
        private let taken = Atomic<Int>(0)

        func next(below count: Int) -> Int? {
            let piece = taken.add(1, ordering: .relaxed).oldValue
            return piece < count ? piece : nil
        }
    }
}

/// Adds up what the threads of a task have done and reports the sums.
final class ProgressCounter: Sendable {
    private let phase: WorkloadProgress.Phase
    private let total: UInt64
    private let handler: WorkloadProgressHandler?
    /// Relaxed: a number for display.
    private let done = Atomic<UInt64>(0)

    init(_ phase: WorkloadProgress.Phase, total: UInt64, _ handler: WorkloadProgressHandler?) {
        self.phase = phase
        self.total = total
        self.handler = handler
    }

    func add(_ amount: UInt64) {
        let sum = done.add(amount, ordering: .relaxed).newValue
        handler?(WorkloadProgress(phase: phase, done: sum, total: total))
    }
}

/// The pages of one piece of a fill or a comparison: 16 MiB.
enum PagePieces {
    static let pages = 4096

    static func count(ofPages pageCount: Int) -> Int { (pageCount + pages - 1) / pages }

    static func range(_ piece: Int, ofPages pageCount: Int) -> Range<Int> {
        piece * pages..<min((piece + 1) * pages, pageCount)
    }
}
