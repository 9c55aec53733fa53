import Histogram
import MigrationCore
import PageModel
import Testing
import TestSupport

@Suite("Blocktime")
struct BlocktimeTests {
    static func page(_ page: Int) -> HostPage { PageRequestQueueTests.page(page) }

    @Test("every seed agrees with a sweep over all waits", arguments: 0..<60 as Range<UInt64>)
    func againstModel(seed: UInt64) {
        var generator = SeededRandom(seed: seed)
        let vcpus = (0..<Int32.random(in: 1...4, using: &generator)).map { 100 - $0 }
        let others: [Int32] = [7, 8]
        var blocktime = Blocktime(vcpuThreads: vcpus)
        var model = BlocktimeModel()
        var now: UInt64 = 1_000
        for _ in 0..<250 {
            now += UInt64.random(in: 0...5_000, using: &generator)
            let page = Self.page(Int.random(in: 0..<6, using: &generator))
            if Int.random(in: 0..<5, using: &generator) < 3 {
                let thread = (vcpus + others).randomElement(using: &generator) ?? 7
                blocktime.begin(thread: thread, page: page, at: now)
                model.begin(thread: thread, page: page, at: now)
            } else {
                let ended = blocktime.placed(page: page, at: now)
                #expect(ended == model.placed(page: page, at: now))
            }
        }
        let report = blocktime.finish(at: now + 9)
        model.finish(at: now + 9)
        for (vcpu, thread) in vcpus.enumerated() {
            let lengths = model.lengths(of: thread)
            #expect(report.vcpus[vcpu].nanoseconds == lengths.reduce(0, +))
            #expect(report.vcpus[vcpu].waitCount == UInt64(lengths.count))
            #expect(report.vcpus[vcpu].waitNanosecondsMax == lengths.max() ?? 0)
        }
        let otherLengths = others.flatMap(model.lengths)
        #expect(report.others.nanoseconds == otherLengths.reduce(0, +))
        #expect(report.others.waitCount == UInt64(otherLengths.count))
        #expect(report.overlappedNanoseconds == model.overlapped(vcpus))
        #expect(report.histogram.totalCount == UInt64(model.waits.count))
        expectLatency(report.latency, agreesWith: (vcpus + others).flatMap(model.lengths))
    }

    private func expectLatency(_ latency: LatencySummary, agreesWith waits: [UInt64]) {
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
            #expect(value >= exact && value <= exact + exact / 1_000 + 1, "\(percent)")
        }
    }

    @Test("two threads on one page end together, each with its own start")
    func twoThreads() {
        var blocktime = Blocktime(vcpuThreads: [10, 11])
        #expect(blocktime.begin(thread: 10, page: Self.page(1), at: 100) == .started)
        #expect(blocktime.begin(thread: 11, page: Self.page(1), at: 150) == .started)
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
        #expect(blocktime.begin(thread: 10, page: Self.page(1), at: 100) == .started)
        #expect(blocktime.begin(thread: 10, page: Self.page(1), at: 150) == .alreadyWaiting)
        #expect(blocktime.begin(thread: 10, page: Self.page(2), at: 180) == .moved)
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
        where blocktime.begin(thread: thread, page: Self.page(Int(thread)), at: 10) == .started {
            started += 1
        }
        #expect(started == 1_024)
        #expect(blocktime.begin(thread: 5_000, page: Self.page(1), at: 10) == .untracked)
        #expect(blocktime.begin(thread: 2, page: Self.page(9_000), at: 11) == .moved)
        #expect(blocktime.placed(page: Self.page(3), at: 12) == 1)
        #expect(blocktime.begin(thread: 5_000, page: Self.page(1), at: 13) == .started)
        let report = blocktime.finish(at: 20)
        #expect(report.untrackedCount == 1)
        #expect(report.latency.count == 1_026)
    }

    @Test("an instant that lies before the latest counts as the latest")
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
}
