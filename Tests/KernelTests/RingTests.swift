import Glibc
import LinuxKernel
import Testing

@Suite(
    "Ring",
    .enabled(if: (try? Ring(entries: 1)) != nil, "needs io_uring (kernel.io_uring_disabled=0)"))
struct RingTests {
    static let patience = HostUnderTest.patienceNanoseconds

    private struct Outcome: Equatable {
        let slot: UInt64
        let result: Result<Int, Errno>
    }

    /// What one reap takes, by slot.
    private func completions(_ ring: borrowing Ring) -> [Outcome] {
        var found: [Outcome] = []
        _ = ring.reap { found.append(Outcome(slot: $0.slot, result: $0.result)) }
        return found.sorted { $0.slot < $1.slot }
    }

    private func refusal(_ body: () throws(Errno) -> Void) -> Errno? {
        do throws(Errno) { try body() } catch { return error }
        return nil
    }

    @Test("a poll completes when its flag is raised, and not before")
    func poll() throws {
        let ring = try Ring(entries: 4)
        let flag = try EventFlag()
        try ring.poll(flag, slot: 42)
        try ring.submit(waitCount: 0, timeoutNanoseconds: Self.patience)
        #expect(completions(ring) == [])
        let raiser = try JoinableThread(name: "raiser") { flag.raise() }
        try ring.submit(waitCount: 1, timeoutNanoseconds: Self.patience)
        raiser.join()
        #expect(completions(ring) == [Outcome(slot: 42, result: .success(1))])
        #expect(completions(ring) == [])
    }

    @Test("a flag raised before completes at once, at both ends of the slot numbers")
    func raised() throws {
        let ring = try Ring(entries: 4)
        let flag = try EventFlag()
        flag.raise()
        try ring.poll(flag, slot: 0)
        try ring.poll(flag, slot: .max)
        try ring.submit(waitCount: 2, timeoutNanoseconds: Self.patience)
        #expect(completions(ring).map(\.slot) == [0, .max])
    }

    @Test("cancelling completes both operations")
    func cancel() throws {
        let ring = try Ring(entries: 4)
        let flag = try EventFlag()
        try ring.poll(flag, slot: 1)
        try ring.cancel(1, slot: 2)
        try ring.submit(waitCount: 2, timeoutNanoseconds: Self.patience)
        let cancelled = Errno(rawValue: ECANCELED)
        #expect(
            completions(ring) == [
                Outcome(slot: 1, result: .failure(cancelled)),
                Outcome(slot: 2, result: .success(0)),
            ])
        try ring.cancel(7, slot: 3)
        try ring.submit(waitCount: 1, timeoutNanoseconds: Self.patience)
        #expect(completions(ring) == [Outcome(slot: 3, result: .failure(.noEntry))])
    }

    @Test("the time limit ends a wait and not its operation", arguments: [true, false])
    func timeout(isQueuedBefore: Bool) throws {
        let ring = try Ring(entries: 4)
        let flag = try EventFlag()
        try ring.poll(flag, slot: 9)
        if isQueuedBefore { try ring.submit(waitCount: 0, timeoutNanoseconds: Self.patience) }
        let limit: UInt64 = 20_000_000
        let start = Monotonic.now()
        let error = refusal { () throws(Errno) in
            try ring.submit(waitCount: 1, timeoutNanoseconds: limit)
        }
        #expect(error == .timerExpired)
        #expect(Monotonic.now() - start >= limit)
        flag.raise()
        try ring.submit(waitCount: 1, timeoutNanoseconds: Self.patience)
        #expect(completions(ring) == [Outcome(slot: 9, result: .success(1))])
    }

    @Test("a full submission queue says so, and submitting makes room")
    func busy() throws {
        let ring = try Ring(entries: 4)
        let flag = try EventFlag()
        flag.raise()
        for slot in 0..<4 as Range<UInt64> { try ring.poll(flag, slot: slot) }
        let error = refusal { () throws(Errno) in try ring.poll(flag, slot: 4) }
        #expect(error == Errno(rawValue: EBUSY))
        try ring.submit(waitCount: 4, timeoutNanoseconds: Self.patience)
        try ring.poll(flag, slot: 4)
        try ring.submit(waitCount: 5, timeoutNanoseconds: Self.patience)
        #expect(completions(ring).map(\.slot) == [0, 1, 2, 3, 4])
    }

    @Test("more completions than one reap takes are left for the next")
    func manyCompletions() throws {
        let ring = try Ring(entries: 32)
        let flag = try EventFlag()
        flag.raise()
        for slot in 0..<20 as Range<UInt64> { try ring.poll(flag, slot: slot) }
        try ring.submit(waitCount: 20, timeoutNanoseconds: 0)
        #expect(completions(ring).count == 16)
        #expect(completions(ring).count == 4)
    }

    @Test("no entries are refused by the kernel")
    func noEntries() {
        #expect(throws: Errno.invalidArgument) { _ = try Ring(entries: 0).reap { _ in } }
    }

    @Test("a handled signal does not end a wait", arguments: [0, patience])
    func signal(timeout: UInt64) throws {
        let flag = try EventFlag()
        let thread = try SignalledThread {
            Result { () throws(Errno) -> [UInt64] in
                let ring = try Ring(entries: 1)
                try ring.poll(flag, slot: 5)
                try ring.submit(waitCount: 0, timeoutNanoseconds: Self.patience)
                try ring.submit(waitCount: 1, timeoutNanoseconds: timeout)
                var slots: [UInt64] = []
                _ = ring.reap { slots.append($0.slot) }
                return slots
            }
        }
        for _ in 0..<5 { thread.interrupt() }
        flag.raise()
        let outcome = thread.join()
        #expect(try outcome.get() == [5])
    }
}
