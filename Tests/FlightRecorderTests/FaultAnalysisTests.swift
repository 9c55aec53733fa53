import Foundation
import TestSupport
import Testing

@testable import FlightRecorder

@Suite("what a log comes to")
struct FaultAnalysisTests {
    @Test("names of causes are unique and in their places")
    func causes() {
        #expect(Set(DelayCause.allCases.map(\.rawValue)).count == DelayCause.allCases.count)
        #expect(DelayCause.allCases.map(\.ordinal) == Array(DelayCause.allCases.indices))
        #expect(Set(DelayCause.allCases.map(\.text)).count == DelayCause.allCases.count)
    }

    @Test("instants of any size are borne", arguments: 0..<300 as Range<UInt64>)
    func extremes(seed: UInt64) throws {
        let log = FaultLog.random(seed: seed, instants: .max)
        let analysis = FaultAnalysis(log)
        #expect(analysis.waits.count == UInt64(log.destination?.waits.count ?? 0))
        var text: [UInt8] = []
        PerfettoTrace(log).write { text += $0 }
        #expect(throws: Never.self) {
            try JSONSerialization.jsonObject(with: Data(text))
        }
    }

    @Test("waits belong to vCPUs, or to threads by name")
    func parties() {
        let analysis = FaultAnalysis(
            .made([
                WaitRecord(100, ended: 300), WaitRecord(500, ended: 600),
                WaitRecord(100, ended: 1_100, thread: 11), WaitRecord(100, ended: 107, thread: 12),
            ]))
        #expect(analysis.vcpus.map(\.waits.nanoseconds) == [300])
        #expect(analysis.vcpus.map(\.waits.maxNanoseconds) == [200])
        #expect(analysis.others.map(\.name) == ["io", "thread 12"])
        #expect(analysis.waits.percentile(50) == 100)
        #expect(analysis.waits.percentile(100) == 1_000)
        #expect(analysis.waits.histogram.map(\.count) == [1, 1, 1, 1])
    }

    @Test("a thread without a name goes by its number")
    func nameless() {
        var log = FaultLog.made([WaitRecord(1, ended: 2, thread: 12)])
        log.destination?.threadNames = [10: "", 12: ""]
        #expect(FaultAnalysis(log).others.map(\.name) == ["thread 12"])
        log.destination?.waits.append(WaitRecord(1, ended: 2))
        var text: [UInt8] = []
        PerfettoTrace(log).write { text += $0 }
        #expect(String(decoding: text, as: UTF8.self).contains("\"vcpu0\""))
    }

    @Test("a bound is stated where the kernel timed some beginnings")
    func timing() {
        func timing(_ waits: [WaitRecord]) -> FaultTiming { FaultAnalysis(.made(waits)).timing }
        let timed = [
            WaitRecord(100, read: 105, ended: 200), WaitRecord(100, read: 115, ended: 200),
        ]
        let read = WaitRecord(100, read: 100, ended: 200, flags: [])
        #expect(timing(timed).boundNanoseconds == 0)
        #expect(timing(timed).readDelayNanosecondsMean == 10)
        #expect(timing(timed + [read, read]).boundNanoseconds == 30)
        #expect(timing([read]).boundNanoseconds == nil)
    }

    @Test("the map counts every page once, where it lies", arguments: 0..<200 as Range<UInt64>)
    func map(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var log = FaultLog.made([])
        log.blocks = [
            .init(
                name: "a", lengthBytes: 4096 * UInt64(1 + random.below(300)), hostPageBytes: 4096),
            .init(
                name: "b", lengthBytes: UInt64(1 + random.below(9)) << 21, hostPageBytes: 2 << 20),
        ]
        var rows = [UInt64](repeating: 0, count: FaultMap.rows)
        let bytes = log.blocks.reduce(0) { $0 + $1.lengthBytes }
        for _ in 0..<20 {
            let index = random.below(2)
            let block = log.blocks[index]
            let pages = Int(block.lengthBytes / block.hostPageBytes)
            let range = random.range(in: pages)
            var record = PlacementRecord()
            (record.at, record.block) = (1 + random.next() % 1_000, UInt16(index))
            (record.page, record.count) = (UInt64(range.lowerBound), UInt32(range.count))
            log.destination?.placements.append(record)
            for page in range {
                let start = index == 0 ? 0 : log.blocks[0].lengthBytes
                let byte = start + UInt64(page) * block.hostPageBytes
                rows[Int(byte * UInt64(FaultMap.rows) / bytes)] += 1
            }
        }
        let cells = FaultMap(log)?.background ?? []
        let sums = (0..<FaultMap.rows).map { row in
            cells.dropFirst(row * FaultMap.columns).prefix(FaultMap.columns).reduce(0, +)
        }
        #expect(sums == rows)
    }

    @Test("a trace is JSON whose slices have their parts inside")
    func trace() throws {
        var log = FaultLog.made(
            [
                WaitRecord(
                    1_000, read: 1_010, requested: 1_030, firstByte: 1_700, placed: 1_760,
                    ended: 1_800)
            ],
            [ServiceRecord(1_200, begun: 1_500, written: 1_600)],
            phases: [.init(status: "postcopy-active", at: 1_000)])
        log.destination?.threadNames[10] = "</script>\"\\\u{1}"
        var text: [UInt8] = []
        PerfettoTrace(log).write { text += $0 }
        let object = try JSONSerialization.jsonObject(with: Data(text)) as? [String: Any]
        let events = try #require(object?["traceEvents"] as? [[String: Any]])
        #expect(!String(decoding: text, as: UTF8.self).contains("<"))
        let slices = events.filter { $0["ph"] as? String == "X" && $0["tid"] as? Int == 10 }
        #expect(slices.first?["dur"] as? Double == 0.8)
        let parts = slices.dropFirst().compactMap { $0["dur"] as? Double }
        #expect(abs(parts.reduce(0, +) - 0.8) < 1e-9 && parts.count == 7)
        #expect(events.contains { $0["name"] as? String == "send" && $0["pid"] as? Int == 2 })
        let names = events.compactMap { ($0["args"] as? [String: Any])?["name"] as? String }
        #expect(names.contains("vcpu0 (</script>\"\\\u{1})"))
        let counts = events.filter { $0["ph"] as? String == "C" }
            .compactMap { ($0["args"] as? [String: Any])?["threads"] as? Int }
        #expect(counts == [1, 0])
    }
}
