import Glibc
import LinuxKernel
import Testing

@Suite("JoinableThread, EventFlag and Poller")
struct JoinableThreadTests {
    @Test("join gives the result of a thread with its own id and name")
    func result() throws {
        let thread = try JoinableThread(name: "a-name-of-over-15-bytes") {
            let id = currentThreadID()
            return (id, HostUnderTest.readText("/proc/self/task/\(id)/comm"))
        }
        let (id, name) = thread.join()
        #expect(id != currentThreadID())
        #expect(name == "a-name-of-over-\n")
    }

    @Test("short slices may be asked for on any kernel")
    func slices() throws {
        let thread = try JoinableThread(name: "slices") {
            preferShortSlices()
            return 1
        }
        #expect(thread.join() == 1)
    }

    @Test("a hundred threads leave none behind, and no descriptor")
    func noneLeft() async {
        await #expect(processExitsWith: .success) {
            let tasks = { HostUnderTest.names(in: "/proc/self/task").count }
            let descriptors = HostUnderTest.descriptorCount
            let before = tasks()
            let gate = try EventFlag()
            var threads: [Joined<Int>] = []
            for index in 0..<100 {
                threads.append(
                    Joined(
                        try JoinableThread(name: "t\(index)") {
                            gate.wait()
                            return index
                        }))
            }
            let during = tasks()
            gate.raise()
            let sum = threads.reduce(0) { $0 + $1.join() }
            // The kernel wakes the joiner a moment before it takes the thread off the list.
            let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
            while tasks() >= before + 100, Monotonic.now() < deadline { sched_yield() }
            #expect(during >= 100)
            #expect(sum == 4950)
            #expect(tasks() < during - 90)
            #expect(HostUnderTest.descriptorCount < descriptors + 50)
        }
    }

    @Test("a thread that nobody joins is a bug")
    func unjoined() async {
        await #expect(processExitsWith: .failure) {
            _ = try JoinableThread(name: "lost") {}
        }
    }

    @Test("a flag stays raised until it is cleared")
    func flag() throws {
        let flag = try EventFlag()
        #expect(!flag.wait(timeoutNanoseconds: 0))
        #expect(!flag.clear())
        flag.raise()
        flag.raise()
        flag.wait()
        #expect(flag.wait(timeoutNanoseconds: 0))
        #expect(flag.clear())
        #expect(!flag.clear())
        #expect(!flag.wait(timeoutNanoseconds: 1000))
    }

    @Test("a flag wakes a thread that sleeps, through handled signals")
    func wake() throws {
        let flag = try EventFlag()
        let thread = try SignalledThread {
            flag.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds)
        }
        for _ in 0..<3 { thread.interrupt() }
        flag.raise()
        let isRaised = thread.join()
        #expect(isRaised)
    }

    @Test("a poller tells which of several are ready")
    func poller() throws {
        let flags = try (0..<3).map { _ in try EventFlag() }
        var poller = Poller(capacity: 3)
        let places = flags.map { poller.watch($0) }
        #expect(poller.wait(timeoutNanoseconds: 0) == 0)
        flags[0].raise()
        flags[2].raise()
        #expect(poller.wait(timeoutNanoseconds: .max) == 2)
        #expect(places.map { poller.isReady($0) } == [true, false, true])
        flags[0].clear()
        #expect(poller.wait(timeoutNanoseconds: .max) == 1)
        #expect(places.map { poller.isReady($0) } == [false, false, true])
        flags[2].clear()
        #expect(poller.wait(timeoutNanoseconds: 0) == 0)
        #expect(places.map { poller.isReady($0) } == [false, false, false])
    }

    @Test("a limit ends a wait, not before its time")
    func limit() throws {
        let flag = try EventFlag()
        let start = Monotonic.now()
        #expect(!flag.wait(timeoutNanoseconds: 5_000_000))
        #expect(Monotonic.now() - start >= 5_000_000)
    }
}
