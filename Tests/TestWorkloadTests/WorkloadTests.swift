import FlightRecorder
import LinuxKernel
import Synchronization
import Testing

@testable import TestWorkload
import TestSupport

@Suite("Workload")
struct WorkloadTests {
    @Test(
        "paused at random, moved to a copy, resumed there, and right in the end",
        arguments: AccessPattern.allCases, [0, 300_000] as [UInt64])
    func moves(pattern: AccessPattern, rate: UInt64) throws {
        var random = SeededRandom(seed: rate + UInt64(pattern.code))
        let specification = try specification(vcpus: 3, pattern: pattern, rate: rate)
        let unit: UInt64 = pattern == .idle ? 3 : 3000
        var (workload, ram) = try filled(specification)
        try workload.start()
        for _ in 0..<4 {
            wait(for: workload, steps: workload.stepsDone + random.next(upperBound: unit))
            workload.pause()
            let bytes = workload.saveState().encoded()
            let copy = try copy(of: ram)
            // The source goes on for nothing, as after a migration that is called off.
            workload.resume()
            workload.stop()
            let left = try Verification.run(
                ram: ram, state: workload.saveState(), threads: 1)
            #expect(left.isClean)

            let state = try WorkloadState(decoding: bytes.span)
            workload = try Workload(specification: specification, ram: copy)
            ram = copy
            try workload.restore(state)
            #expect(workload.stepsDone == state.stepsDone)
            #expect(workload.saveState() == state)
            workload.resume()
        }
        wait(for: workload, steps: workload.stepsDone + unit)
        workload.stop()
        let result = try Verification.run(ram: ram, state: workload.saveState(), threads: 2)
        #expect(result.isClean, "\(result)")
    }

    @Test("nothing moves while paused, and 300 quick pauses and resumes lose nothing")
    func pauses() throws {
        let (workload, ram) = try filled(specification(vcpus: 3, hotPages: 9))
        try workload.start()
        for round in 0..<300 {
            workload.pause()
            let state = workload.saveState()
            if round % 50 == 0 {
                workload.pause()
                let result = try Verification.run(ram: ram, state: state, threads: 1)
                #expect(result.isClean)
            }
            #expect(workload.saveState() == state && workload.stepsDone == state.stepsDone)
            workload.resume()
        }
        workload.resume()
        let before = workload.stepsDone
        wait(for: workload, steps: before + 10)
        workload.stop()
        workload.stop()
        #expect(try Verification.run(ram: ram, state: workload.saveState(), threads: 1).isClean)
    }

    @Test("a sleeping vCPU is paused at once", arguments: [AccessPattern.idle, .uniform])
    func interruptsSleep(pattern: AccessPattern) throws {
        // One access a second: without an interruption each pause would take most of a second.
        let (workload, _) = try filled(specification(vcpus: 2, pattern: pattern, rate: 1))
        try workload.start()
        var quickest = UInt64.max
        let start = Monotonic.now()
        for _ in 0..<20 {
            let before = Monotonic.now()
            workload.pause()
            quickest = min(quickest, Monotonic.now() - before)
            workload.resume()
        }
        workload.stop()
        #expect(quickest < 1_000_000)
        #expect(Monotonic.now() - start < 5_000_000_000)
    }

    @Test("the rate is kept to within what the machine's load explains")
    func rate() throws {
        let (workload, _) = try filled(specification(vcpus: 2, rate: 50_000))
        let start = Monotonic.now()
        try workload.start()
        wait(for: workload, steps: 30_000)
        let seconds = Double(Monotonic.now() - start) / 1e9
        workload.stop()
        #expect(seconds > 0.28, "\(seconds)")
    }

    @Test("thread ids and names are there after start, stall probes after stop")
    func threads() throws {
        let (workload, _) = try filled(specification(vcpus: 3))
        #expect(workload.vcpuThreadIDs.isEmpty && workload.stepsDone == 0)
        try workload.start()
        let ids = workload.vcpuThreadIDs
        #expect(Set(ids).count == 3 && ids.allSatisfy { $0 > 0 && $0 != currentThreadID() })
        #expect(workload.stallProbes.isEmpty)
        wait(for: workload, steps: 100)
        workload.stop()
        #expect(workload.stallProbes.count == 3)
        for probe in workload.stallProbes {
            #expect(probe.totalNanoseconds >= probe.count * StallProbe.thresholdNanoseconds)
            #expect(probe.maxNanoseconds <= probe.totalNanoseconds)
        }
    }

    @Test("a state of another workload is refused")
    func otherWorkload() throws {
        let (workload, _) = try filled(specification(seed: 1))
        let other = WorkloadState(initialOf: try specification(seed: 2))
        #expect(throws: WorkloadError.otherWorkload) { try workload.restore(other) }
        workload.stop()
    }

    @Test("progress reaches the total in every phase")
    func progress() throws {
        let seen = Mutex<[WorkloadProgress]>([])
        let specification = try specification()
        let ram = try freshRAM(pages: specification.pageCount)
        let workload = try Workload(specification: specification, ram: ram)
        workload.fill(threads: 2) { progress in seen.withLock { $0.append(progress) } }
        try workload.start()
        wait(for: workload, steps: 100)
        workload.stop()
        _ = try Verification.run(ram: ram, state: workload.saveState(), threads: 2) { progress in
            seen.withLock { $0.append(progress) }
        }
        for phase in [WorkloadProgress.Phase.filling, .replaying, .comparing] {
            let last = seen.withLock { $0.last { $0.phase == phase } }
            #expect(last != nil && last?.done == last?.total)
        }
    }

    @Test("a call out of order traps")
    func outOfOrder() async {
        await #expect(processExitsWith: .failure) {
            let (workload, _) = try filled(specification())
            workload.pause()
        }
        await #expect(processExitsWith: .failure) {
            let (workload, _) = try filled(specification())
            try workload.start()
            _ = workload.saveState()
        }
    }
}

@Suite("Pace")
struct PaceTests {
    @Test(
        "in ten seconds of regular calls as many steps are due as the rate says",
        arguments: [1, 3, 999, 1000, 1001, 50_000, 1_000_000] as [UInt64])
    func exact(rate: UInt64) {
        var pace = Pace(rate: rate, startingAt: 5)
        var now: UInt64 = 5
        var steps: UInt64 = 0
        while now < 10_000_000_005 {
            now += min(pace.sleepNanoseconds(from: now), 10_000_000_005 - now)
            let due = pace.stepsDue(at: now)
            steps += due
            for _ in 0..<due { pace.stepDone() }
        }
        #expect(steps == rate * 10)
    }

    @Test(
        "after a stall only 10 ms are made up", arguments: [20, 900, 1500, 3_600_000] as [UInt64])
    func arrears(stallMilliseconds: UInt64) {
        var pace = Pace(rate: 100_000, startingAt: 0)
        let now = stallMilliseconds * 1_000_000
        #expect(pace.stepsDue(at: now) == 1000)
        for _ in 0..<1000 { pace.stepDone() }
        #expect(pace.stepsDue(at: now) == 0)
        #expect(pace.stepsDue(at: now + 1_000_000) == 100)
        #expect(pace.sleepNanoseconds(from: now) <= 1_000_000)
    }

    @Test("the extremes of rate and time do not overflow")
    func extremes() {
        for rate in [1, 1_000_000_000] as [UInt64] {
            var pace = Pace(rate: rate, startingAt: 0)
            #expect(pace.stepsDue(at: 1 << 62) == max(1, rate / 100))
            _ = pace.sleepNanoseconds(from: 1 << 62)
            #expect(pace.stepsDue(at: 1 << 62) == max(1, rate / 100))
        }
    }

    @Test("the probe keeps what is over the threshold")
    func probe() {
        var probe = StallProbe()
        probe.record(from: 100, to: 5_100)
        #expect(probe == StallProbe())
        probe.record(from: 100, to: 5_101)
        probe.record(from: 0, to: 9_000)
        #expect(probe.count == 2 && probe.totalNanoseconds == 14_001)
        #expect(probe.maxNanoseconds == 9_000 && probe.meanNanoseconds == 7_000)
        let first = LongAccess(start: 100, end: 5_101)
        #expect(probe.accesses == [first, LongAccess(start: 0, end: 9_000)])
        let sum = StallProbe(sumOf: [probe, StallProbe(), probe])
        #expect(sum.count == 4 && sum.totalNanoseconds == 28_002 && sum.maxNanoseconds == 9_000)
        #expect(StallProbe(sumOf: []).meanNanoseconds == 0)
    }
}
