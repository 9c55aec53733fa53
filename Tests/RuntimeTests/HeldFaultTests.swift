import HeldFaults
import LinuxKernel
import MigrationCore
import TestSupport
import Testing

@Suite("blocktime of faults that are held for a known time", .serialized)
struct HeldFaultTests {
    /// How vCPUs are blocked beside each other.
    enum Overlapping: CaseIterable {
        case together, inTurn, atRandom
    }

    private static let rounds = 6
    private static let hasClock =
        FaultClock(threads: [currentThreadID()]).summary.timedThreads == 1

    private func plan(_ vcpus: Int, _ kind: Overlapping, _ seed: UInt64) -> HeldFaults {
        var random = SeededRandom(seed: seed)
        let step: UInt64 = 1_000_000
        func times(_ body: (Int, Int) -> UInt64) -> [[UInt64]] {
            (0..<vcpus).map { vcpu in (0..<Self.rounds).map { body(vcpu, $0) } }
        }
        return switch kind {
        case .together:
            HeldFaults(
                holds: times { _, _ in 4 * step }, rests: times { _, _ in step / 2 },
                areTogether: true)
        case .inTurn:
            HeldFaults(
                holds: times { _, _ in 2 * step },
                rests: times { vcpu, round in round == 0 ? UInt64(vcpu) * 3 * step : step })
        case .atRandom:
            HeldFaults(
                holds: times { _, _ in random.next() % (3 * step) },
                rests: times { _, _ in random.next() % step })
        }
    }

    /// What is reported lies between what is true for certain (from reading a fault to placing its
    /// page) and what can be true at most (from before the access on), whatever the machine's load.
    @Test(
        "is what each vCPU lost, and what all lost at once",
        arguments: [1, 2, 3, 8, 64], Overlapping.allCases)
    func truth(vcpus: Int, kind: Overlapping) throws {
        for timesInKernel in [true, false] {
            let plan = plan(vcpus, kind, UInt64(vcpus))
            let outcome = try plan.run(timesInKernel: timesInKernel)
            for (vcpu, truths) in outcome.truths.enumerated() {
                let least = truths.reduce(0) { $0 + $1.placed - $1.read }
                let most = truths.reduce(0) { $0 + $1.placed - min($1.start, $1.placed) }
                let told = outcome.report.vcpus[vcpu]
                #expect(told.waitCount == UInt64(Self.rounds))
                #expect((least...most).contains(told.nanoseconds), "vCPU \(vcpu)")
                if !timesInKernel { #expect(told.nanoseconds == least) }
            }
            let certain = outcome.truths.map { $0.map { $0.read..<max($0.read, $0.placed) } }
            let possible = outcome.truths.map { $0.map { $0.start..<max($0.start, $0.placed) } }
            let overlap =
                HeldFaults.overlap(of: certain)...HeldFaults.overlap(of: possible)
            #expect(overlap.contains(outcome.report.overlappedNanoseconds))
            if kind == .together {
                #expect(outcome.report.overlappedNanoseconds >= UInt64(Self.rounds) * 4_000_000)
            }
            let isTimed = timesInKernel && Self.hasClock
            #expect((outcome.kernelTimedCount > 0) == isTimed)
        }
    }
}
