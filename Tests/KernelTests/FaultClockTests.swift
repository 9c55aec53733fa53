import Glibc
import LinuxKernel
import PageModel
import Testing

@Suite("FaultClock")
struct FaultClockTests {
    private static let isOffered: Bool = {
        let clock = FaultClock(threads: [currentThreadID()])
        return clock.summary.timedThreads == 1
    }()

    /// What was seen of one fault.
    private struct Seen {
        let began: UInt64?
        /// When the descriptor was found readable.
        let noticed: UInt64
        /// When the event was read.
        let read: UInt64
    }

    /// A thread that waits for leave, and then reads a word of each page; it answers when it was about
    /// to, each time, or 0 where it did not read a zero.
    private struct TimedToucher: ~Copyable {
        let threadID: Int32
        private let leave: EventFlag
        private let thread: JoinableThread<[UInt64]>

        init(_ rig: borrowing FaultRig, pages: Int) throws {
            let ram = rig.ram
            let offsets = (0..<pages).map { rig.offset($0).rawValue + 72 }
            let leave = try EventFlag()
            let started = try EventFlag()
            let identity = Mailbox()
            thread = try JoinableThread(name: "timed") {
                identity.put(currentThreadID())
                started.raise()
                leave.wait()
                return offsets.map { offset in
                    let before = Monotonic.now()
                    // Used, or an optimizer leaves it out.
                    return ram.loadWord(at: offset) == 0 ? before : 0
                }
            }
            started.wait()
            self.leave = leave
            threadID = identity.value
        }

        func go() { leave.raise() }

        consuming func join() -> [UInt64] { thread.join() }
    }

    private static func addresses(of page: Int, _ rig: borrowing FaultRig) -> Range<HostAddress> {
        let start = rig.ram.address.rawValue + rig.offset(page).rawValue
        return HostAddress(rawValue: start)..<HostAddress(rawValue: start + UInt64(rig.pageBytes))
    }

    /// Serves the next fault once it has waited for `held` nanoseconds, and answers what was seen.
    private static func serve(
        _ page: Int, of thread: Int32, _ rig: borrowing FaultRig, _ clock: borrowing FaultClock,
        held: UInt64
    ) throws -> Seen {
        var poller = Poller(capacity: 1)
        poller.watch(rig.uffd)
        let isReady = poller.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds) > 0
        try #require(isReady, "no fault came")
        let noticed = Monotonic.now()
        if held > 0 { _ = try EventFlag().wait(timeoutNanoseconds: held) }
        let events = try rig.events(1)
        let read = Monotonic.now()
        #expect(events.map(\.thread) == [thread])
        let began = clock.began(thread: thread, in: addresses(of: page, rig), before: read)
        // Not another page's, not of the future, not another thread's.
        let other = clock.began(thread: thread, in: addresses(of: page + 1, rig), before: read)
        #expect(other == nil)
        let past = clock.began(thread: thread, in: addresses(of: page, rig), before: began ?? 0)
        #expect(past == nil)
        let foreign = clock.began(
            thread: currentThreadID(), in: addresses(of: page, rig), before: read)
        #expect(foreign == nil)
        _ = try rig.place(page..<page + 1)
        return Seen(began: began, noticed: noticed, read: read)
    }

    @Test(
        "a fault began between the access and its notice, however late it is read",
        .enabled(if: isOffered && HostUnderTest.hasUserfaultfd, "needs perf_event_open"))
    func began() throws {
        // The samples of 256 faults fit: the buffer wraps twice.
        let pages = 700
        try FaultRig.run(.anonymous, pages: pages) { rig in
            let toucher = try TimedToucher(rig, pages: pages)
            let clock = FaultClock(threads: [toucher.threadID])
            #expect(clock.summary.timedThreads == 1)
            toucher.go()
            var seen: [Seen] = []
            var failure: (any Error)?
            do {
                for page in 0..<pages {
                    let held: UInt64 = page % 50 == 0 ? 3_000_000 : 0
                    seen.append(
                        try Self.serve(page, of: toucher.threadID, rig, clock, held: held))
                }
            } catch {
                failure = error
                try rig.uffd.unregister(rig.ram)
            }
            let accesses = toucher.join()
            if let failure { throw failure }
            // The kernel samples no more than it is told to in a tick: some may be missing.
            let known = seen.indices.filter { seen[$0].began != nil }
            #expect(known.count > pages / 2)
            for page in known {
                let began = seen[page].began ?? 0
                #expect(began >= accesses[page])
                #expect(began <= seen[page].noticed)
            }
            // Where the reading was held, it tells the access better than the reading does. The thread
            // may have been kept from the processor in between, though hardly every time.
            let held = known.filter { $0 % 50 == 0 }
            #expect(
                held.contains { page in
                    let began = seen[page].began ?? 0
                    return began - accesses[page] < seen[page].read - began
                })
        }
    }

    @Test("a thread that has ended is passed over, and the wrong ones are nobody's")
    func noThread() throws {
        let identity = Mailbox()
        let ended = try JoinableThread(name: "ended") { identity.put(currentThreadID()) }
        ended.join()
        let clock = FaultClock(threads: [identity.value, 0, -1])
        #expect(clock.summary.timedThreads == 0)
        #expect(clock.summary.untimedThreads == (Self.isOffered ? 0 : 1))
        let all = HostAddress(rawValue: 0)..<HostAddress(rawValue: .max)
        for thread in [identity.value, 0, -1, .max] {
            let began = clock.began(thread: thread, in: all, before: .max)
            #expect(began == nil)
        }
    }

    @Test("who has no privilege is timed, or told what would help")
    func unprivileged() async {
        await #expect(processExitsWith: .success) {
            try HostUnderTest.giveUpLocking()
            let clock = FaultClock(threads: [currentThreadID()])
            let summary = clock.summary
            #expect(summary.timedThreads + summary.untimedThreads == 1)
            #expect((summary.refusal == nil) == (summary.timedThreads == 1))
            let level = HostUnderTest.readText("/proc/sys/kernel/perf_event_paranoid")
            if level == "2\n", summary.refusal != nil {
                #expect([.seccomp, .lockedMemory].contains(summary.refusal?.cause))
            }
        }
    }

    @Test("each answer of the kernel has its cause")
    func causes() {
        for filtered in [false, true] {
            func cause(_ error: Errno) -> FaultClockRefusal.Cause {
                FaultClockRefusal.cause(opening: error, filtered: filtered)
            }
            #expect(cause(.noSystemCall) == (filtered ? .seccomp : .kernel))
            #expect(cause(.notPermitted) == (filtered ? .seccomp : .sysctlAndCapability))
            #expect(cause(.accessDenied) == .sysctlAndCapability)
            #expect(cause(.noEntry) == .kernel)
            #expect(cause(.invalidArgument) == .kernel)
            #expect(cause(Errno(rawValue: EMFILE)) == .other)
        }
    }
}
