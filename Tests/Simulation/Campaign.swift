import Synchronization

/// Many seeds on all cores. Stops behind the first seed that fails, so that the same seeds give the same
/// answer however many workers there are.
public final class Campaign: Sendable {
    /// What is known so far.
    public struct State: Sendable {
        public var tally = Tally()
        public var done: UInt64 = 0
        /// The smallest seed that failed.
        public var failure: Simulator.Outcome?
    }

    private let seeds: Range<UInt64>
    private let limits: Limits
    private let announcing: Simulator.Announcement
    private let next: Atomic<UInt64>
    private let state = Mutex(State())

    private static let chunk: UInt64 = 250

    public init(
        seeds: Range<UInt64>, limits: Limits = .full,
        announcing: @escaping Simulator.Announcement = { _, _ in }
    ) {
        self.announcing = announcing
        self.seeds = seeds
        self.limits = limits
        next = Atomic(seeds.lowerBound)
    }

    /// - Parameter progress: called now and then by one worker or another.
    public func run(
        workers: Int, progress: @escaping @Sendable (State) -> Void = { _ in }
    ) async -> State {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<workers { group.addTask { self.work(progress) } }
        }
        return state.withLock { $0 }
    }

    private func work(_ progress: (State) -> Void) {
        while true {
            let first = next.add(Self.chunk, ordering: .relaxed).oldValue
            guard first < seeds.upperBound else { return }
            var tally = Tally()
            var failure: Simulator.Outcome?
            let chunk = first..<min(first + Self.chunk, seeds.upperBound)
            for seed in chunk {
                guard seed < limit else { break }
                let outcome = Simulator.run(seed, limits: limits, announcing: announcing)
                tally.add(outcome.tally)
                guard outcome.violation != nil else { continue }
                failure = outcome
                break
            }
            let now = state.withLock { state in
                state.tally.add(tally)
                state.done += UInt64(chunk.count)
                if let failure, failure.seed < state.failure?.seed ?? .max {
                    state.failure = failure
                }
                return state
            }
            progress(now)
            if now.failure != nil, first > limit { return }
        }
    }

    /// Seeds from here on need no run any more.
    private var limit: UInt64 { state.withLock { $0.failure?.seed ?? .max } }
}
