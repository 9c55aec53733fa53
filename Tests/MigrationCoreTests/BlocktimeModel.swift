import MigrationCore
import PageModel
import TestSupport

/// Blocktime as anybody would write it: it keeps every wait, and sweeps them afterwards.
struct BlocktimeModel {
    struct Wait {
        let thread: Int32
        let page: HostPage
        let start: UInt64
        var end: UInt64?
        var how = EndedWait.Ending.unfinished
        var length: UInt64 { (end ?? start) - start }
    }

    struct Halt {
        let vcpu: Int
        let isHalted: Bool
        let at: UInt64
    }

    private(set) var waits: [Wait] = []
    private(set) var halts: [Halt] = []

    mutating func begin(thread: Int32, page: HostPage, at instant: UInt64) {
        if let open = waits.firstIndex(where: { $0.thread == thread && $0.end == nil }) {
            if waits[open].page == page { return }
            end(open, .moved, at: instant)
        }
        // A thread is in one page at a time.
        let free = waits.filter { $0.thread == thread }.compactMap(\.end).max() ?? 0
        waits.append(Wait(thread: thread, page: page, start: max(instant, free)))
    }

    mutating func placed(page: HostPage, at instant: UInt64) -> Int {
        let open = waits.indices.filter { waits[$0].page == page && waits[$0].end == nil }
        for index in open { end(index, .placed, at: instant) }
        return open.count
    }

    mutating func setHalted(_ vcpu: Int, _ isHalted: Bool, at instant: UInt64) {
        halts.append(Halt(vcpu: vcpu, isHalted: isHalted, at: instant))
    }

    mutating func finish(at instant: UInt64) {
        for index in waits.indices where waits[index].end == nil {
            end(index, .unfinished, at: instant)
        }
    }

    private mutating func end(_ index: Int, _ how: EndedWait.Ending, at instant: UInt64) {
        waits[index].end = max(waits[index].start, instant)
        waits[index].how = how
    }

    var openCount: Int { waits.count { $0.end == nil } }

    func openCount(of threads: [Int32]) -> Int {
        waits.count { $0.end == nil && threads.contains($0.thread) }
    }

    func lengths(of thread: Int32) -> [UInt64] {
        waits.filter { $0.thread == thread }.map(\.length)
    }

    /// Between two neighbouring instants each vCPU is blocked, or halted, all the time or not at all.
    func overlapped(_ vcpus: [Int32]) -> UInt64 {
        let ends = waits.flatMap { [$0.start, $0.end ?? $0.start] } + halts.map(\.at)
        let instants = Set(ends).sorted()
        // Of two that lie at one instant the one that was told later holds.
        let inOrder = halts.enumerated().sorted {
            ($0.element.at, $0.offset) < ($1.element.at, $1.offset)
        }.map(\.element)
        var total: UInt64 = 0
        for (left, right) in zip(instants, instants.dropFirst()) {
            var isStopped = Array(repeating: false, count: vcpus.count)
            for halt in inOrder where halt.at <= left { isStopped[halt.vcpu] = halt.isHalted }
            var isBlocked = false
            for wait in waits where wait.start <= left && (wait.end ?? wait.start) >= right {
                guard let vcpu = vcpus.firstIndex(of: wait.thread) else { continue }
                isStopped[vcpu] = true
                isBlocked = true
            }
            if isBlocked && isStopped.allSatisfy({ $0 }) { total += right - left }
        }
        return total
    }
}

/// An account and its model, driven by the same schedule.
struct BlocktimeSchedule: ~Copyable {
    var generator: SeededRandom
    let vcpus: [Int32]
    let others: [Int32]
    private let pageCount: Int
    /// How far an edge may lie back.
    private let lateness: UInt64
    private(set) var blocktime: Blocktime
    private(set) var model = BlocktimeModel()
    private(set) var ended: [EndedWait] = []
    private(set) var now: UInt64 = 100_000

    init(seed: UInt64) {
        var generator = SeededRandom(seed: seed)
        // Few vCPUs are often all blocked at once.
        let most: Int32 = [1, 2, 3, 5, 64].randomElement(using: &generator) ?? 1
        vcpus = (0..<Int32.random(in: 1...most, using: &generator)).map { 1_000 - $0 * 3 }
        others = Array([7, 8, 9].prefix(generator.below(4)))
        pageCount = 1 + generator.below(8)
        lateness = [0, 0, 300, 5_000].randomElement(using: &generator) ?? 0
        blocktime = Blocktime(vcpuThreads: vcpus)
        self.generator = generator
    }

    /// An instant that is now, or lies a little back; now and then that of the event before.
    private mutating func instant() -> UInt64 {
        if generator.below(4) > 0 { now += UInt64(generator.below(1_000)) }
        return now - (lateness == 0 ? 0 : UInt64(generator.below(Int(lateness))))
    }

    /// One event; answers whether both saw the same.
    mutating func step() -> Bool {
        let page = PageRequestQueueTests.page(
            generator.below(pageCount), block: generator.below(2))
        switch generator.below(10) {
        case 0..<6:
            let all = vcpus + others
            let thread = all[generator.below(all.count)]
            let at = instant()
            let before = model.openCount
            let outcome = blocktime.begin(thread: thread, page: page, at: at) { ended.append($0) }
            model.begin(thread: thread, page: page, at: at)
            if case .started = outcome { return model.openCount == before + 1 }
            return model.openCount == before
        case 6..<9:
            let at = instant()
            let told = ended.count
            let count = blocktime.placed(page: page, at: at) { ended.append($0) }
            return model.placed(page: page, at: at) == count && ended.count == told + count
        default:
            let vcpu = generator.below(vcpus.count)
            let isHalted = generator.below(3) > 0
            let at = instant()
            blocktime.setHalted(vcpu: vcpu, isHalted, at: at)
            model.setHalted(vcpu, isHalted, at: at)
            return blocktime.currentlyWaitingVCPUs == model.openCount(of: vcpus)
        }
    }

    mutating func finish() -> BlocktimeReport {
        now += UInt64(generator.below(1_000))
        model.finish(at: now)
        return blocktime.finish(at: now) { ended.append($0) }
    }
}
