import Foundation
import Postcopy
import TestSupport
import Testing

@testable import PostcopyCommand

/// Where a migration stood as it went on, in so many instants at most.
@Suite struct SampleLogTests {
    private static func sample(_ at: UInt64, _ status: String = "active") -> SampleFigures {
        SampleFigures(atNs: at, status: status, sentBytes: at)
    }

    @Test(
        "however long it takes, there are so many, from first to last, in order", arguments: 2...40)
    func bound(countMax: Int) {
        var random = SeededRandom(seed: UInt64(countMax))
        var log = SampleLog(countMax: countMax, intervalNanoseconds: 10)
        var now: UInt64 = 5
        var most = 0
        for _ in 0..<2_000 {
            log.note(Self.sample(now))
            most = max(most, log.samples.count)
            now += random.next() % 20
        }
        #expect(most <= countMax)
        log.end(with: Self.sample(now))
        log.note(Self.sample(now + 1_000_000, "late"))
        let instants = log.samples.map(\.atNs)
        #expect(instants.first == 5 && instants.last == now && instants.count <= countMax)
        #expect(instants == instants.sorted())
        if countMax >= 8 {
            // Even enough for a curve: no gap is longer than what four intervals come to.
            let gaps = zip(instants.dropFirst(), instants).map { $0 - $1 }
            #expect(gaps.max() ?? 0 <= 4 * now / UInt64(countMax) + 100)
            #expect(instants.count >= countMax / 4)
        }
    }

    @Test("each status has an instant, however soon the next one follows")
    func statuses() {
        var log = SampleLog(intervalNanoseconds: 1_000_000)
        let way = ["none", "setup", "active", "device", "postcopy-active", "completed"]
        for (number, status) in way.enumerated() {
            for step in 0..<50 as Range<UInt64> {
                log.note(Self.sample(UInt64(number) * 100 + step, status))
            }
        }
        #expect(log.samples.map(\.status) == way)
        for round in 0..<10_000 as Range<UInt64> {
            log.note(Self.sample(10_000_000 * round, "postcopy-paused"))
        }
        #expect(log.samples.count <= SampleLog.countMax)
        #expect(Set(way).isSubset(of: log.samples.map(\.status)))
    }

    @Test("a link that breaks without end keeps within the bound too")
    func endlessBreaks() {
        var log = SampleLog(countMax: 20, intervalNanoseconds: 1)
        var most = 0
        for round in 0..<2_000 as Range<UInt64> {
            log.note(Self.sample(round, round % 2 == 0 ? "postcopy-paused" : "postcopy-active"))
            most = max(most, log.samples.count)
        }
        #expect(most <= 20)
    }

    @Test("who waits for a source for days keeps one instant of that")
    func waiting() {
        var log = SampleLog(intervalNanoseconds: 1)
        for at in 0..<1_000 as Range<UInt64> { log.note(Self.sample(at, "none")) }
        #expect(log.samples.count == 1)
    }

    @Test("both sides of a host are put into one order")
    func joined() {
        let (one, other) = (
            [1, 5, 9].map { Self.sample($0) }, [2, 5].map { Self.sample($0, "b") }
        )
        #expect(SampleLog.joined(one, other)?.map(\.atNs) == [1, 2, 5, 5, 9])
        #expect(SampleLog.joined(one, nil) == one && SampleLog.joined(nil, other) == other)
    }
}

/// What a destination tells the process that started it.
@Suite struct ProgressLineTests {
    private static var progress: DestinationProgress {
        var progress = DestinationProgress()
        progress.status = .postcopyActive
        progress.totalHostPages = .max
        progress.missingHostPages = .max
        progress.receivedBytes = .max
        progress.backgroundPages = .max
        progress.urgentPages = .max
        progress.zeroPages = .max
        progress.requests = .max
        progress.faults = .max
        progress.waitingVCPUs = 64
        progress.latency = LatencyBuckets(
            counts: [UInt64](repeating: .max, count: LatencyBuckets.bucketCount))
        progress.waitedNanoseconds = .max
        progress.recovery.breakCount = 7
        return progress
    }

    @Test("the largest figures fit into one write, and are read as they were said")
    func largest() {
        let line = ProgressLine(Self.progress)
        #expect(line.bytes.count <= StandardOutput.atOnceBytesMax)
        var output = ChildOutput()
        #expect(output.take(.init(line.bytes))?.progress == Self.progress)
        #expect(output.report.isEmpty)
    }

    @Test("lines and a report are told apart wherever the pipe cuts them")
    func cuts() {
        let line = ProgressLine(DestinationProgress(), vcpuBlocktimeNs: [1, 2])
        let report = fullReport().encoded()
        let all = line.bytes + line.bytes + report
        for cut in 0...all.count {
            var output = ChildOutput()
            let found = [all[..<cut], all[cut...]].compactMap { output.take(.init($0)) }
            #expect(found.last == line && output.report == report, "cut at \(cut)")
        }
    }

    @Test("what is no such line is passed over")
    func damaged() {
        var output = ChildOutput()
        #expect(output.take(.init("\u{1E}{}\n\u{1E}nonsense\n".utf8)) == nil)
        #expect(output.take(.init("{}".utf8)) == nil)
        #expect(output.report == .init("{}".utf8))
    }
}
