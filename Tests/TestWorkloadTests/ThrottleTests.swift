import Foundation
import LinuxKernel
import Testing

@testable import TestWorkload

@Suite("Throttle")
struct ThrottleTests {
    @Test("a pause is the shortest that gives its share", arguments: 1...99)
    func pause(percent: Int) {
        let pause = Int(ThrottleSlice.pauseNanoseconds(percent: percent))
        let slice = Int(ThrottleSlice.nanoseconds)
        #expect(pause * 100 >= percent * (pause + slice))
        #expect((pause - 1) * 100 < percent * (pause - 1 + slice))
    }

    @Test("the pause comes behind a slice and not before")
    func slice() {
        let slice = ThrottleSlice(startingAt: 7)
        for (passed, pause) in [(0, 0), (1, 0), (9_999_999, 0), (10_000_000, 10_000_000)] {
            let now = 7 + UInt64(passed)
            #expect(slice.pauseNanoseconds(at: now, percent: 50) == UInt64(pause))
        }
        #expect(slice.pauseNanoseconds(at: .max, percent: 99) == 990_000_000)
    }

    @Test("time that a vCPU was kept from running makes no step due")
    func leftOut() {
        var pace = Pace(rate: 100_000, startingAt: 0)
        #expect(pace.stepsDue(at: 2_000_000) == 200)
        pace.leaveOut(nanoseconds: 990_000_000)
        #expect(pace.stepsDue(at: 992_000_000) == 200)
        #expect(pace.stepsDue(at: 993_000_000) == 300)
        for _ in 0..<300 { pace.stepDone() }
        #expect(pace.sleepNanoseconds(from: 993_000_000) <= 1_000_000)
        #expect(pace.stepsDue(at: 1_003_000_000) == 1000)
    }

    @Test("a paced vCPU does its share of steps", arguments: [1, 20, 50, 90, 99])
    func pacedShare(percent: Int) {
        var pace = Pace(rate: 50_000, startingAt: 0)
        var slice = ThrottleSlice(startingAt: 0)
        var (now, steps) = (0 as UInt64, 0 as UInt64)
        while now < 20_000_000_000 {
            let pause = slice.pauseNanoseconds(at: now, percent: percent)
            if pause > 0 {
                now += pause
                pace.leaveOut(nanoseconds: pause)
                slice = ThrottleSlice(startingAt: now)
            }
            let due = pace.stepsDue(at: now)
            steps += due
            for _ in 0..<due { pace.stepDone() }
            now += pace.sleepNanoseconds(from: now)
        }
        let expected = 1_000_000 * UInt64(100 - percent) / 100
        #expect(steps > expected * 95 / 100 && steps <= expected * 102 / 100, "\(steps)")
    }

    /// Comes back when the vCPU's thread sleeps in the kernel.
    private func awaitSleep(of thread: Int32) throws {
        let deadline = Monotonic.now() + 5_000_000_000
        while true {
            let path = "/proc/self/task/\(thread)/stat"
            let state = try String(contentsOfFile: path, encoding: .utf8)
            // The state stands behind the name, which stands in parentheses.
            if state.split(separator: ")").last?.hasPrefix(" S") == true { return }
            try #require(Monotonic.now() < deadline, "the vCPU does not pause")
            sched_yield()
        }
    }

    @Test("a throttled vCPU parks at once, and goes on", arguments: [0, 1_000_000_000] as [UInt64])
    func parks(rate: UInt64) throws {
        let (workload, ram) = try filled(specification(rate: rate))
        try workload.start()
        defer { workload.stop() }
        workload.throttle(percent: 99)
        let thread = try #require(workload.vcpuThreadIDs.first)
        var parking: UInt64 = 0
        for _ in 0..<10 {
            wait(for: workload, steps: workload.stepsDone + 1000)
            try awaitSleep(of: thread)
            let before = Monotonic.now()
            workload.pause()
            parking += Monotonic.now() - before
            workload.resume()
        }
        workload.throttle(percent: 0)
        wait(for: workload, steps: workload.stepsDone + 100_000)
        workload.stop()
        // Pauses that nothing ends would make ten times most of a second.
        #expect(parking < 5_000_000_000)
        #expect(try Verification.run(ram: ram, state: workload.saveState(), threads: 1).isClean)
    }

    @Test("nine tenths leave less than half of the steps")
    func slower() throws {
        let (workload, _) = try filled(specification(vcpus: 1))
        let never = try EventFlag()
        try workload.start()
        func steps(percent: Int) -> UInt64 {
            workload.throttle(percent: percent)
            let before = workload.stepsDone
            _ = never.wait(timeoutNanoseconds: 200_000_000)
            return workload.stepsDone - before
        }
        // Others may need the core in any of the spans: they take turns.
        var (free, throttled) = (0 as UInt64, 0 as UInt64)
        for _ in 0..<4 {
            free += steps(percent: 0)
            throttled += steps(percent: 90)
        }
        workload.stop()
        #expect(throttled < free / 2, "\(throttled) of \(free)")
    }

    @Test("a migrated guest throttles its workload")
    func guest() throws {
        let specification = try specification()
        let ram = try freshRAM(pages: specification.pageCount)
        let guest = try WorkloadGuest(ram: ram, specification: specification)
        guest.throttle(percent: 99)
        let workload = try #require(guest.workload)
        try workload.start()
        defer { workload.stop() }
        wait(for: workload, steps: 1000)
        // Nothing else makes a vCPU without a rate sleep.
        try awaitSleep(of: try #require(guest.vcpuThreads.first))
        WorkloadGuest(ram: ram).throttle(percent: 1)
    }

    @Test("a share that leaves nothing, or is none, traps", arguments: [-1, 100])
    func outOfRange(percent: Int) async {
        await #expect(processExitsWith: .failure) { [percent] in
            let (workload, _) = try filled(specification())
            workload.throttle(percent: percent)
        }
    }
}
