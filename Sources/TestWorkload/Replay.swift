internal import Synchronization

/// What a run of a workload has done to memory, computed again from how far it came.
///
/// The same generators run over a count per page instead of memory, about 10 ns a step; vCPUs share
/// no page, so they are replayed on several threads.
public struct Replay: Sendable {
    /// The number of writes to each page of the hot set, in the order of pages.
    public let writes: [UInt64]
    /// Each vCPU's state after the steps that the given state counts.
    public let generators: [GeneratorState]

    /// Does again the steps that `state` counts; everything else in its generators is ignored.
    ///
    /// - Parameter threads: how many threads may work; below 1 counts as 1.
    public init(
        of state: WorkloadState, threads: Int = 1, progress: WorkloadProgressHandler? = nil
    ) {
        let specification = state.specification
        let counter = ProgressCounter(.replaying, total: state.stepsDone, progress)
        let results = Results(count: specification.vcpuCount)
        SharedTask.run(pieces: specification.vcpuCount, threads: threads) { vcpu in
            let steps = state.generators[vcpu].stepsDone
            results.set(
                Self.replay(specification, vcpu: vcpu, steps: steps, counter), at: vcpu)
        }
        let vcpus = results.all()
        writes = vcpus.flatMap(\.writes)
        generators = vcpus.map(\.generator)
    }

    /// How often `page` was written; 0 outside the hot set.
    public func writes(ofPage page: Int) -> UInt64 {
        writes.indices.contains(page) ? writes[page] : 0
    }

    private struct VCPUResult: Sendable {
        let writes: [UInt64]
        let generator: GeneratorState
    }

    /// Written by the threads of the task, each its own element; read after they are joined.
    private final class Results: Sendable {
        private let elements: Mutex<[VCPUResult?]>

        init(count: Int) { elements = Mutex(Array(repeating: nil, count: count)) }

        func set(_ result: VCPUResult, at index: Int) {
            elements.withLock { $0[index] = result }
        }

        func all() -> [VCPUResult] { elements.withLock { $0.compactMap(\.self) } }
    }

    private static func replay(
        _ specification: WorkloadSpecification, vcpu: Int, steps: UInt64,
        _ counter: ProgressCounter
    ) -> VCPUResult {
        var memory = CountedMemory(
            content: ContentModel(specification: specification),
            pages: specification.pages(of: vcpu))
        var generator = AccessGenerator(
            specification: specification, vcpu: vcpu,
            state: GeneratorState(specification: specification, vcpu: vcpu))
        var left = steps
        while left > 0 {
            let part = min(left, 1 << 20)
            for _ in 0..<part { generator.step(&memory) }
            left -= part
            counter.add(part)
        }
        return VCPUResult(writes: memory.writes, generator: generator.state)
    }
}
