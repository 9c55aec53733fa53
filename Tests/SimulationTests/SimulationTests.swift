import Foundation
import Simulation
import Testing

@Suite("Both sides, simulated")
struct SimulationTests {
    @Test("2,000 seeds of broken links break no law, and each of them had a fault")
    func seeds() async {
        let state = await Campaign(seeds: 0..<2_000).run(workers: 2)
        if let failure = state.failure {
            let small = Simulator.shrink(failure)
            Issue.record("\(Report.failure(small).joined(separator: "\n"))")
        }
        let tally = state.tally
        #expect(tally.migrations == 2_000 && tally.withoutFault == 0)
        #expect(tally.completed > 1_000 && tally.stayed > 100)
        #expect(tally.recoveries > 1_000 && tally.insideRecovery > 300)
        #expect(tally.lateHellos > 5)
        #expect(tally.faults.count == 9, "every kind of fault: \(tally.faults)")
    }

    @Test(
        "the same seed is the same migration, event by event",
        arguments: 1...5 as ClosedRange<UInt64>)
    func repeated(seed: UInt64) {
        let first = Simulator.run(seed, traces: true)
        let second = Simulator.run(seed, traces: true)
        #expect(first.trace == second.trace && first.tally == second.tally)
        #expect(first.trace.count > 3)
        let other = Simulator.run(seed + 5, traces: true)
        #expect(first.trace != other.trace)
    }

    @Test(
        "the bounds that the simulator judges by are the product's, which it cannot reach",
        arguments: [
            ("SourceState", Bounds.source), ("DestinationState", Bounds.destination),
            ("Door", Bounds.door),
        ])
    func bounds(file: String, bounds: [String: Int]) throws {
        let top = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
        let text = try String(
            contentsOf: top.appending(path: "Sources/PostcopyRuntime/\(file).swift"),
            encoding: .utf8)
        let lines = text.replacing("_", with: "").split(separator: "\n")
        for (name, value) in bounds {
            let said = lines.filter { $0.contains("static let \(name) = ") }
            #expect(said.count == 1 && said.allSatisfy { $0.hasSuffix(" = \(value)") }, "\(name)")
        }
    }

    @Test("a source whose threads all wait in writes hears that its destination has gone")
    func nobodyListens() {
        #expect(Simulator.run(883_539).violation == nil)
    }

    @Test("with less of everything a seed still migrates, down to one page and one fault")
    func small() {
        let limits = Limits(blocks: 1, pages: 1, vcpus: 1, faults: 1)
        for seed in 0..<100 as Range<UInt64> {
            #expect(Simulator.run(seed, limits: limits).violation == nil)
        }
    }
}
