import Postcopy
import Synchronization
import TestSupport
import Testing

/// A migration behind one that failed or was cancelled, of the same guest.
@Suite(.timeLimit(.minutes(2))) struct RetryTests {
    @Test(
        "a guest that stops too late for one migration is not let run under the next",
        arguments: [false, true])
    func lateStop(cancels: Bool) throws {
        let (gate, isStopping) = (try EventFlag(), try EventFlag())
        var sends = MigrationOptions()
        // Long enough for a busy host to begin the stop, which is left out otherwise.
        sends.pauseNanosecondsMax = 2_000_000_000
        let ends = try TwoEnds(sends: sends)
        defer { gate.raise() }
        ends.from.onPause.withLock {
            $0 = {
                isStopping.raise()
                gate.wait()
            }
        }
        ends.source.startPostcopy()
        try ends.start()
        #expect(isStopping.wait(timeoutNanoseconds: 20_000_000_000))
        if cancels { ends.source.cancel() }
        #expect(try ends.source.ended().status == (cancels ? .cancelled : .failed))
        #expect(try ends.destination.endedByCancel().guest == .there)
        // The stop is still under way, and lets the guest run once it has come.
        let source = try MigrationSource(guest: ends.from)
        #expect(throws: StartRefusal.memoryInUse(block: "sample.ram")) {
            try source.start(to: .unix(path: "/nowhere"))
        }
        ends.from.onPause.withLock { $0 = nil }
        gate.raise()
        let to = try SampleGuest(megabytes: 4)
        let destination = try MigrationDestination(guest: to)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try destination.start(on: listener)
        source.startPostcopy()
        try #require(eventually { (try? source.start(to: address)) != nil })
        try source.ended().get()
        try destination.ended().get()
        #expect(!ends.from.isRunning && to.isRunning && to.wrongPages == 0)
        #expect(ends.from.pauseCount.load(ordering: .relaxed) == 2)
    }
}
