import Histogram
import MigrationCore
import PageModel
import Testing
import TestSupport

@Suite("Blocktime")
struct BlocktimeTests {
    static func page(_ page: Int, block: Int = 0) -> HostPage {
        PageRequestQueueTests.page(page, block: block)
    }

    /// What a schedule's account has wrong; empty when it agrees with its model.
    private func differences(_ run: inout BlocktimeSchedule, events: Int) -> [String] {
        for event in 0..<events where !run.step() { return ["event \(event)"] }
        let report = run.finish()
        let model = run.model
        var wrong: [String] = []
        for (vcpu, thread) in run.vcpus.enumerated()
        where report.vcpus[vcpu].numbers != totals(model.lengths(of: thread)) {
            wrong.append("vCPU \(vcpu)")
        }
        for other in report.otherThreads.own
        where other.waits.totals.numbers != totals(model.lengths(of: other.thread)) {
            wrong.append("thread \(other.thread)")
        }
        let lengths = model.waits.map(\.length)
        let told = endings(run.ended.map { ($0.thread, $0.page, $0.began, $0.ended, $0.how) })
        let kept = endings(model.waits.map { ($0.thread, $0.page, $0.start, $0.end ?? 0, $0.how) })
        let laws = [
            ("others", report.others.numbers == totals(run.others.flatMap(model.lengths))),
            ("overlap", report.overlappedNanoseconds == model.overlapped(run.vcpus)),
            ("all", report.allWaits.totals.numbers == totals(lengths)),
            ("buckets", report.buckets.total == UInt64(lengths.count)),
            ("endings", told == kept),
            ("vCPUs", run.ended.allSatisfy { $0.vcpu == run.vcpus.firstIndex(of: $0.thread) }),
        ]
        return wrong + laws.filter { !$0.1 }.map(\.0)
    }

    private func totals(_ lengths: [UInt64]) -> [UInt64] {
        [lengths.reduce(0, +), UInt64(lengths.count), lengths.max() ?? 0]
    }

    private func endings(
        _ waits: [(Int32, HostPage, UInt64, UInt64, EndedWait.Ending)]
    ) -> [[UInt64]: Int] {
        var counts: [[UInt64]: Int] = [:]
        for (thread, page, began, ended, how) in waits {
            let place = UInt64(page.block.rawValue << 32 | page.page.rawValue)
            let kind: UInt64 = how == .placed ? 0 : how == .moved ? 1 : 2
            counts[[UInt64(thread), place, began, ended, kind], default: 0] += 1
        }
        return counts
    }

    @Test(
        "10,000 schedules agree with a sweep over all waits", arguments: 0..<20 as Range<UInt64>)
    func againstModel(part: UInt64) {
        for seed in part * 500..<(part + 1) * 500 {
            var run = BlocktimeSchedule(seed: seed)
            let wrong = differences(&run, events: 10 + Int(seed % 51))
            #expect(wrong == [], "seed \(seed)")
        }
    }

    @Test("so do long ones, which pass what is kept in order", arguments: 0..<8 as Range<UInt64>)
    func againstModelForLong(seed: UInt64) {
        var run = BlocktimeSchedule(seed: seed)
        let wrong = differences(&run, events: 900)
        #expect(wrong == [])
        let lengths = run.model.waits.map(\.length)
        let report = run.blocktime.report()
        expectLatency(report.latency, agreesWith: lengths)
        for (vcpu, thread) in run.vcpus.enumerated() {
            expectLatency(
                report.vcpuWaits[vcpu].latency, agreesWith: run.model.lengths(of: thread),
                toOneIn: 100)
        }
    }

    private func expectLatency(
        _ latency: LatencySummary, agreesWith waits: [UInt64], toOneIn parts: UInt64 = 1_000
    ) {
        let sorted = waits.sorted()
        #expect(latency.count == UInt64(sorted.count))
        #expect(latency.maxNanoseconds == sorted.last ?? 0)
        #expect(latency.meanNanoseconds == sorted.reduce(0, +) / UInt64(max(sorted.count, 1)))
        for (percent, value) in [
            (50.0, latency.p50Nanoseconds), (90, latency.p90Nanoseconds),
            (99, latency.p99Nanoseconds), (99.9, latency.p999Nanoseconds),
        ] where !sorted.isEmpty {
            let rank = max(Int((Double(sorted.count) * percent / 100).rounded(.up)), 1)
            let exact = sorted[rank - 1]
            #expect(value >= exact && value <= exact + exact / parts + 1, "\(percent)")
        }
    }

    @Test("two threads on one page end together, each with its own start")
    func twoThreads() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        #expect(blocktime.begin(thread: 10, page: Self.page(1), at: 100).isStarted)
        #expect(blocktime.begin(thread: 11, page: Self.page(1), at: 150).isStarted)
        #expect(blocktime.placed(page: Self.page(1), at: 200) == 2)
        #expect(blocktime.placed(page: Self.page(1), at: 300) == 0)
        let report = blocktime.finish(at: 1_000)
        #expect(report.vcpuNanoseconds == [100, 50])
        #expect(report.overlappedNanoseconds == 50)
        #expect(report.latency.count == 2)
    }

    @Test("a thread that faults again keeps its start; on another page its old wait ends")
    func oneThread() {
        var blocktime = Blocktime(vcpuThreads: [10])
        #expect(blocktime.begin(thread: 10, page: Self.page(1), at: 100).isStarted)
        let again = blocktime.begin(thread: 10, page: Self.page(1), at: 150)
        #expect(again == .alreadyWaiting(slot: 0))
        #expect(blocktime.begin(thread: 10, page: Self.page(2), at: 180) == .moved(slot: 0))
        #expect(blocktime.placed(page: Self.page(1), at: 190) == 0)
        #expect(blocktime.placed(page: Self.page(2), at: 200) == 1)
        let report = blocktime.report()
        #expect(report.vcpuNanoseconds == [100])
        #expect(report.vcpus[0].waitCount == 2)
        #expect(report.vcpus[0].waitNanosecondsMax == 80)
        #expect(report.overlappedNanoseconds == 100)
    }

    @Test("an unknown thread counts as another one and never overlaps")
    func unknownThread() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        blocktime.begin(thread: 99, page: Self.page(1), at: 0)
        blocktime.begin(thread: 10, page: Self.page(1), at: 5)
        #expect(blocktime.placed(page: Self.page(1), at: 20) == 2)
        #expect(blocktime.begin(thread: 0, page: Self.page(2), at: 30) == .untracked)
        let report = blocktime.finish(at: 40)
        #expect(report.others.nanoseconds == 20)
        #expect(report.vcpuNanoseconds == [15, 0])
        #expect(report.overlappedNanoseconds == 0)
        #expect(report.untrackedCount == 1)
    }

    @Test("thread 1,025 is counted as untracked until a place is free")
    func fullTable() {
        var blocktime = Blocktime(vcpuThreads: [1])
        var started = 0
        for thread in 1...Int32(Blocktime.waiterCapacity)
        where blocktime.begin(thread: thread, page: Self.page(Int(thread)), at: 10).isStarted {
            started += 1
        }
        #expect(started == 1_024)
        #expect(blocktime.begin(thread: 5_000, page: Self.page(1), at: 10) == .untracked)
        #expect(blocktime.begin(thread: 2, page: Self.page(9_000), at: 11).isMoved)
        #expect(blocktime.placed(page: Self.page(3), at: 12) == 1)
        #expect(blocktime.begin(thread: 5_000, page: Self.page(1), at: 13).isStarted)
        let report = blocktime.finish(at: 20)
        #expect(report.untrackedCount == 1)
        #expect(report.latency.count == 1_026)
    }

    @Test("a wait ends no sooner than it begins, and no sooner does its thread wait again")
    func backwards() {
        var blocktime = Blocktime(vcpuThreads: [10])
        blocktime.begin(thread: 10, page: Self.page(1), at: 100)
        #expect(blocktime.placed(page: Self.page(1), at: 50) == 1)
        blocktime.begin(thread: 10, page: Self.page(2), at: 60)
        let report = blocktime.finish(at: 130)
        #expect(report.vcpuNanoseconds == [30])
    }

    @Test("a wait above an hour is totalled in full and recorded as an hour")
    func longWait() {
        let day: UInt64 = 86_400_000_000_000
        var blocktime = Blocktime(vcpuThreads: [10])
        blocktime.begin(thread: 10, page: Self.page(1), at: 0)
        let report = blocktime.finish(at: day)
        #expect(report.vcpuNanoseconds == [day])
        #expect(report.latency.maxNanoseconds == day)
        #expect(report.histogram.totalCount == 1)
        #expect(report.histogram.estimatedFootprintInBytes < 1 << 20)
    }

    @Test("vCPUs may be named while threads wait")
    func renaming() {
        var blocktime = Blocktime(vcpuThreads: [])
        blocktime.begin(thread: 10, page: Self.page(1), at: 0)
        blocktime.begin(thread: 11, page: Self.page(2), at: 0)
        blocktime.setVCPUThreads([10, 11], at: 50)
        #expect(blocktime.placed(page: Self.page(1), at: 80) == 1)
        blocktime.begin(thread: 10, page: Self.page(1), at: 90)
        blocktime.setVCPUThreads([11], at: 100)
        let report = blocktime.finish(at: 110)
        #expect(report.overlappedNanoseconds == 30 + 10 + 10)
        #expect(report.vcpuNanoseconds == [80 + 110])
        #expect(report.others.nanoseconds == 20)
        #expect(report.others.waitCount == 1)
    }

    @Test("one thread may run all vCPUs, and then its waits are the overlap")
    func sharedThread() {
        var blocktime = Blocktime(vcpuThreads: [10, 10])
        blocktime.begin(thread: 10, page: Self.page(1), at: 0)
        let report = blocktime.finish(at: 40)
        #expect(report.vcpuNanoseconds == [40, 0])
        #expect(report.overlappedNanoseconds == 40)
    }

    @Test("an account of nothing is all zeros")
    func nothing() {
        var blocktime = Blocktime(vcpuThreads: [])
        let report = blocktime.finish(at: 5)
        #expect(report.latency.count == 0)
        #expect(report.latency.meanNanoseconds == 0)
        #expect(report.latency.p999Nanoseconds == 0)
        #expect(report.overlappedNanoseconds == 0)
    }

    @Test("a wait that is told late counts from when it began, for its thread and for all vCPUs")
    func toldLate() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        blocktime.begin(thread: 10, page: Self.page(1), at: 100)
        blocktime.placed(page: Self.page(1), at: 500)
        // It was blocked before the other one went on, and is read about only now.
        blocktime.begin(thread: 11, page: Self.page(2), at: 200)
        #expect(blocktime.currentlyWaitingVCPUs == 1)
        blocktime.placed(page: Self.page(2), at: 600)
        let report = blocktime.finish(at: 1_000)
        #expect(report.vcpuNanoseconds == [400, 400])
        #expect(report.overlappedNanoseconds == 300)
    }

    @Test("an edge told behind more later ones than are kept counts from what was settled")
    func toldTooLate() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        // 600 edges, of which 512 are kept: what happened up to 88 is settled.
        for instant in stride(from: UInt64(1), through: 600, by: 2) {
            blocktime.begin(thread: 10, page: Self.page(1), at: instant)
            blocktime.placed(page: Self.page(1), at: instant + 1)
        }
        blocktime.begin(thread: 11, page: Self.page(2), at: 0)
        let report = blocktime.finish(at: 700)
        #expect(report.vcpuNanoseconds == [300, 700])
        #expect(report.overlappedNanoseconds == 300 - 44)
    }

    @Test("a halted vCPU does not run, and alone it makes no overlap")
    func halted() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        blocktime.setHalted(vcpu: 1, true, at: 10)
        blocktime.begin(thread: 10, page: Self.page(1), at: 20)
        blocktime.setHalted(vcpu: 7, true, at: 25)
        blocktime.setHalted(vcpu: 1, false, at: 50)
        blocktime.setHalted(vcpu: 0, true, at: 60)
        blocktime.placed(page: Self.page(1), at: 70)
        blocktime.setHalted(vcpu: 1, true, at: 80)
        let report = blocktime.finish(at: 200)
        #expect(report.overlappedNanoseconds == 30)
        #expect(report.vcpuNanoseconds == [50, 0])
    }

    @Test("a thread that runs several vCPUs is halted when all of them are")
    func sharedThreadHalted() {
        var blocktime = Blocktime(vcpuThreads: [10, 10, 11])
        blocktime.begin(thread: 11, page: Self.page(1), at: 0)
        blocktime.setHalted(vcpu: 0, true, at: 10)
        blocktime.setHalted(vcpu: 1, true, at: 20)
        blocktime.setHalted(vcpu: 0, false, at: 50)
        #expect(blocktime.finish(at: 90).overlappedNanoseconds == 30)
    }

    @Test("1,024 waits keep their slots and their starts, whatever comes and goes")
    func slots() {
        var generator = SeededRandom(seed: 7)
        var blocktime = Blocktime(vcpuThreads: [])
        var open: [Int32: (slot: Int, page: HostPage, began: UInt64)] = [:]
        for now in 1...UInt64(12_000) {
            let page = Self.page(generator.below(600), block: generator.below(3))
            let thread = Int32(1 + generator.below(1_200))
            let before = open
            var ended: [EndedWait] = []
            if now % 4 == 0 {
                blocktime.placed(page: page, at: now) { ended.append($0) }
                #expect(Set(ended.map(\.thread)) == Set(before.filter { $1.page == page }.keys))
            } else {
                let outcome = blocktime.begin(thread: thread, page: page, at: now) {
                    ended.append($0)
                }
                switch outcome {
                case .started(let slot), .moved(let slot): open[thread] = (slot, page, now)
                case .alreadyWaiting(let slot): #expect(before[thread]?.slot == slot)
                case .untracked: #expect(open.count == Blocktime.waiterCapacity)
                }
            }
            for wait in ended {
                #expect(before[wait.thread]?.slot == wait.slot)
                #expect(before[wait.thread]?.began == wait.began)
                if wait.how == .placed { open[wait.thread] = nil }
            }
            #expect(Set(open.values.map(\.slot)).count == open.count)
        }
        #expect(open.count > 800)
    }

    @Test("the first 64 other threads have an account of their own, the rest share one")
    func otherThreads() {
        var blocktime = Blocktime(vcpuThreads: [500])
        for thread in 1...Int32(70) {
            blocktime.begin(thread: thread, page: Self.page(1), at: 100)
        }
        blocktime.placed(page: Self.page(1), at: 107)
        let report = blocktime.finish(at: 200)
        #expect(report.otherThreads.own.map(\.thread) == Array(1...64))
        #expect(report.otherThreads.own.allSatisfy { $0.waits.totals.numbers == [7, 1, 7] })
        #expect(report.otherThreads.rest.totals.numbers == [42, 6, 7])
        #expect(report.others.numbers == [490, 70, 7])
    }

    @Test("runs add up: vCPUs by their place, other threads by their id")
    func merged() {
        func run(_ vcpus: [Int32], _ other: Int32, waiting nanoseconds: UInt64) -> BlocktimeReport {
            var blocktime = Blocktime(vcpuThreads: vcpus)
            for thread in vcpus + [other] {
                blocktime.begin(thread: thread, page: Self.page(1), at: 1_000)
            }
            blocktime.begin(thread: 0, page: Self.page(1), at: 1_000)
            return blocktime.finish(at: 1_000 + nanoseconds)
        }
        var all = run([10], 5, waiting: 3_000)
        all.add(run([20, 21], 6, waiting: 5_000))
        all.add(run([30], 5, waiting: 70_000))
        #expect(all.vcpus.map(\.numbers) == [[78_000, 3, 70_000], [5_000, 1, 5_000]])
        #expect(all.overlappedNanoseconds == 78_000)
        #expect(all.otherThreads.own.map(\.thread) == [5, 6])
        #expect(all.others.numbers == [78_000, 3, 70_000])
        #expect(all.untrackedCount == 3)
        #expect(all.latency.count == 7)
        #expect(all.histogram.countForValue(5_000) == 3)
        #expect(all.buckets.counts[1...6] == [2, 3, 0, 0, 0, 2])
    }
}

extension WaitTotals {
    fileprivate var numbers: [UInt64] { [nanoseconds, waitCount, waitNanosecondsMax] }
}

extension Blocktime.Outcome {
    fileprivate var isStarted: Bool {
        if case .started = self { true } else { false }
    }
    fileprivate var isMoved: Bool {
        if case .moved = self { true } else { false }
    }
}
