import LinuxKernel
import Synchronization
import TestSupport
import Testing

@Suite("Several threads that wait for the same")
struct SharedPollerTests {
    private let patience: UInt64 = 20_000_000_000

    /// Takes what it is told until the end; answers the tags.
    private static func listen(to poller: Handover<SharedPoller>, threads: Int) throws
        -> [Bounded<[UInt32]>]
    {
        let shared = Shared(poller.take())
        return try (0..<threads).map { _ in
            try Bounded("waiter") {
                var tags: [UInt32] = []
                while let tag = shared.poller.wait(timeoutNanoseconds: 20_000_000_000) {
                    tags.append(tag)
                    if tag == 9 { return tags }
                }
                return tags
            }
        }
    }

    private final class Shared: Sendable {
        let poller: SharedPoller
        init(_ poller: consuming SharedPoller) { self.poller = poller }
    }

    @Test("a flag that stays raised is told to all of them")
    func all() throws {
        let poller = try SharedPoller()
        let end = try EventFlag()
        try poller.watch(end, as: 9)
        let waiters = try Self.listen(to: Handover(poller), threads: 8)
        end.raise()
        for waiter in waiters { #expect(waiter.output() == [9]) }
    }

    @Test("each raise is told once, whether or not anybody lowers the flag")
    func once() throws {
        let poller = try SharedPoller()
        let flag = try EventFlag()
        try poller.watchRaises(of: flag, as: 3)
        for _ in 0..<50 {
            flag.raise()
            #expect(poller.wait(timeoutNanoseconds: patience) == 3)
            #expect(poller.wait(timeoutNanoseconds: 0) == nil)
        }
    }

    @Test("raises that several threads wait for wake somebody, and end with the end")
    func some() throws {
        let poller = try SharedPoller()
        let (flag, end) = (try EventFlag(), try EventFlag())
        try poller.watchRaises(of: flag, as: 3)
        try poller.watch(end, as: 9)
        let waiters = try Self.listen(to: Handover(poller), threads: 3)
        for _ in 0..<100 { flag.raise() }
        end.raise()
        let tags = waiters.flatMap { $0.output() ?? [] }
        #expect(tags.count { $0 == 9 } == 3)
        #expect(tags.count { $0 == 3 } <= 100)
    }

    @Test("an alarm goes off once, later when it is set anew")
    func alarm() throws {
        let poller = try SharedPoller()
        let alarm = try AlarmFlag()
        try poller.watch(alarm, as: 5)
        #expect(poller.wait(timeoutNanoseconds: 0) == nil)
        alarm.set(afterNanoseconds: 3_600_000_000_000)
        #expect(poller.wait(timeoutNanoseconds: 0) == nil)
        for delay: UInt64 in [0, 1, 2_000_000] {
            let start = Monotonic.now()
            alarm.set(afterNanoseconds: delay)
            #expect(poller.wait(timeoutNanoseconds: patience) == 5)
            #expect(Monotonic.now() - start >= delay)
            #expect(poller.wait(timeoutNanoseconds: 0) == nil)
        }
    }
}
