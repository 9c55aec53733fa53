internal import LinuxKernel
internal import Synchronization

/// One virtual processor: a thread that does the steps of one generator while it may.
final class VCPU: Sendable {
    let number: Int
    private let specification: WorkloadSpecification
    private let ram: GuestRAM
    private let lot: ParkingLot
    private let throttle: Throttle
    /// Written by the thread before it parks, read while it is parked.
    private let saved: Mutex<GeneratorState>
    /// Written by the thread after each step. Relaxed: a number for display.
    private let steps: Atomic<UInt64>
    /// Written once by the thread before it parks for the first time.
    private let thread = Atomic<Int32>(0)
    /// Written once by the thread as it ends, read once it is joined.
    private let lostPages = Atomic<Int>(0)

    init(
        _ number: Int, _ specification: WorkloadSpecification, _ ram: GuestRAM, _ lot: ParkingLot,
        _ throttle: Throttle, state: GeneratorState
    ) {
        self.number = number
        self.specification = specification
        self.ram = ram
        self.lot = lot
        self.throttle = throttle
        saved = Mutex(state)
        steps = Atomic(state.stepsDone)
    }

    /// Where the generator stood when the vCPU last parked.
    var state: GeneratorState { saved.withLock { $0 } }
    var stepsDone: UInt64 { steps.load(ordering: .relaxed) }
    var threadID: Int32 { thread.load(ordering: .relaxed) }
    /// Pages that it touched and that were lost; 0 before it has ended.
    var lostPagesTouched: Int { lostPages.load(ordering: .relaxed) }

    /// The thread's whole life: parked at first, until the parking lot says end.
    func run() -> StallProbe {
        thread.store(currentThreadID(), ordering: .relaxed)
        LostMemoryWatch.admit()
        defer { lostPages.store(LostMemoryWatch.pagesTouchedByThisThread, ordering: .relaxed) }
        var generator = AccessGenerator(specification: specification, vcpu: number, state: state)
        var memory = GuestMemory(ram: ram, content: ContentModel(specification: specification))
        var probe = StallProbe()
        probe.reserve()
        while lot.park() {
            if rate == 0 {
                runFreely(&generator, &memory, &probe)
            } else {
                runPaced(&generator, &memory, &probe)
            }
            let state = generator.state
            saved.withLock { $0 = state }
        }
        return probe
    }

    /// Accesses a second; 0 is as many as it can.
    private var rate: UInt64 {
        specification.pattern == .idle
            ? AccessPattern.idleStepsPerSecond : specification.accessesPerSecond
    }

    private func runFreely(
        _ generator: inout AccessGenerator, _ memory: inout GuestMemory,
        _ probe: inout StallProbe
    ) {
        var start = Monotonic.now()
        var slice = ThrottleSlice(startingAt: start)
        while !lot.isCalled {
            let paused = pauseWhenThrottled(&slice, at: start)
            guard paused == 0 else {
                start += paused
                continue
            }
            generator.step(&memory)
            let end = Monotonic.now()
            probe.record(from: start, to: end)
            start = end
            steps.store(generator.state.stepsDone, ordering: .relaxed)
        }
    }

    private func runPaced(
        _ generator: inout AccessGenerator, _ memory: inout GuestMemory,
        _ probe: inout StallProbe
    ) {
        var start = Monotonic.now()
        var pace = Pace(rate: rate, startingAt: start)
        var slice = ThrottleSlice(startingAt: start)
        while !lot.isCalled {
            let paused = pauseWhenThrottled(&slice, at: start)
            guard paused == 0 else {
                pace.leaveOut(nanoseconds: paused)
                start += paused
                continue
            }
            guard pace.stepsDue(at: start) > 0 else {
                lot.sleep(nanoseconds: pace.sleepNanoseconds(from: start))
                start = Monotonic.now()
                continue
            }
            generator.step(&memory)
            pace.stepDone()
            let end = Monotonic.now()
            probe.record(from: start, to: end)
            start = end
            steps.store(generator.state.stepsDone, ordering: .relaxed)
        }
    }

    /// Pauses at the end of a throttled slice, unless called in; answers for how long.
    @inline(__always)
    private func pauseWhenThrottled(_ slice: inout ThrottleSlice, at now: UInt64) -> UInt64 {
        let percent = throttle.percent
        guard percent > 0 else { return 0 }
        let pause = slice.pauseNanoseconds(at: now, percent: percent)
        guard pause > 0 else { return 0 }
        lot.sleep(nanoseconds: pause)
        let end = Monotonic.now()
        slice = ThrottleSlice(startingAt: end)
        return end - now
    }
}
