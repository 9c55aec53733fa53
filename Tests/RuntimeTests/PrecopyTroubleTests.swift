import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import Testing
import TestSupport

/// A tracker that takes as long as that of a very large guest.
private final class SlowTracker: DirtyTracker {
    private let real: any DirtyTracker
    private let startNanoseconds: UInt64
    private let syncNanoseconds: UInt64
    private let never: EventFlag?
    private let syncCount = Atomic(0)

    init(_ real: any DirtyTracker, start: UInt64, sync: UInt64) {
        self.real = real
        startNanoseconds = start
        syncNanoseconds = sync
        never = try? EventFlag()
    }

    func check() throws(TrackerRefusal) { try real.check() }

    func start() throws(TrackerRefusal) {
        _ = never?.wait(timeoutNanoseconds: startNanoseconds)
        try real.start()
    }

    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        // The last one is done with the guest stopped.
        if syncCount.add(1, ordering: .relaxed).newValue <= 2 {
            _ = never?.wait(timeoutNanoseconds: syncNanoseconds)
        }
        return try real.sync(block, into: dirty)
    }

    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try real.clear(block, pages)
    }

    func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try real.forget(block, pages)
    }

    func stop() { real.stop() }
}

extension RuntimeLaws {
    /// What is slow, or ends, or is asked for at a bad moment.
    @Suite("A precopy in trouble") struct PrecopyTroubleTests {
        @Test(
            "a tracker that takes long is no silence",
            arguments: [(800_000_000, 0), (0, 800_000_000)] as [(UInt64, UInt64)])
        func slowTracker(start: UInt64, sync: UInt64) throws {
            let pair = try WritingPair(
                blocks: [("low", 2_000, .anonymous)],
                tracker: { SlowTracker(WriteProtectTracker($0), start: start, sync: sync) })
            var options = PrecopyTests.options {
                $0.switchover = PrecopyTests.settings(rounds: 1)
            }
            options.silenceNanosecondsMax = 400_000_000
            let outcome = try #require(try pair.migrate(options))
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(outcome.destination.status == .completed)
            #expect(pair.destination.wrongPages() == 0)
        }

        @Test("vCPUs are slowed until they have stopped, and no longer")
        func throttle() throws {
            let pair = try WritingPair(blocks: [("low", 3_000, .anonymous)])
            let source = pair.source
            let never = try EventFlag()
            var options = PrecopyTests.options { $0.autoConverge = .usual }
            options.maxBandwidth = 8_000_000
            let atStop = Seen()
            source.onPause.withLock { hook in
                hook = { atStop.throttles.withLock { $0 = source.throttles.withLock { $0 } } }
            }
            let outcome = try #require(
                try pair.migrate(options) { session in
                    let end = Monotonic.now() + 20_000_000_000
                    while session.progress.precopy?.throttlePercent ?? 0 == 0, Monotonic.now() < end
                    {
                        _ = never.wait(timeoutNanoseconds: 5_000_000)
                    }
                    session.startPostcopy()
                })
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(atStop.throttles.withLock { $0 }.first == 20)
            #expect(atStop.throttles.withLock { $0 }.last != 0)
            #expect(source.throttles.withLock { $0 }.last == 0)
            #expect(outcome.source.precopy?.throttlePercent ?? 0 >= 20)
        }

        private final class Seen: Sendable { let throttles = Mutex<[Int]>([]) }

        @Test("pages given up do not keep a precopy from completing")
        func hintsAndCompletion() throws {
            let tap = TrackerTap()
            let pair = try WritingPair(
                blocks: [("low", 30_000, .anonymous)], hotPages: 4,
                tracker: { memory in tap.watching(WriteProtectTracker(memory)) })
            let source = pair.source
            for page in 100..<29_000 { source.write(0, page) }
            let options = PrecopyTests.options {
                $0.warmUpNanoseconds = 50_000_000
                $0.switchover = PrecopyTests.settings(downtime: 100_000_000)
            }
            let outcome = try #require(
                try pair.migrate(options) { session in
                    tap.onFirstClear { try? session.hint(free: 1_000..<29_000, ofBlock: 0) }
                })
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            #expect(outcome.source.precopy?.decision?.rule == .fitsDowntime)
            #expect(outcome.source.precopy?.restWasSent == true, "\(outcome.source.discards)")
            #expect(outcome.destination.progress.requests == 0)
        }

        @Test("a warm-up without end can be cancelled")
        func endlessWarmUp() throws {
            let pair = try WritingPair(blocks: [("low", 200, .anonymous)])
            let never = try EventFlag()
            let outcome = try #require(
                try pair.migrate(PrecopyTests.options { $0.warmUpNanoseconds = .max }) { session in
                    let end = Monotonic.now() + 10_000_000_000
                    while session.progress.status != .active, Monotonic.now() < end {
                        _ = never.wait(timeoutNanoseconds: 1_000_000)
                    }
                    session.cancel()
                })
            #expect(outcome.source.status == .cancelled)
            #expect(outcome.source.guestRunsHere)
        }

        @Test("a destination that takes nothing does not keep a stopped guest")
        func stalledRest() throws {
            let pair = try WritingPair(blocks: [("low", 20_000, .anonymous)], hotPages: 4)
            let source = pair.source
            var options = PrecopyTests.options {
                $0.switchover = PrecopyTests.settings(downtime: 60_000_000_000)
            }
            options.preempt = false
            func stallWhenStopped(_ proxy: CuttingProxy) {
                source.onPause.withLock { hook in
                    hook = {
                        for page in 0..<20_000 { source.write(0, page) }
                        proxy.isStalled.store(true, ordering: .relaxed)
                    }
                }
            }
            let outcome = try #require(
                try pair.migrate(options, cutAfter: .max, through: stallWhenStopped))
            #expect(outcome.source.status == .failed)
            #expect(outcome.source.guestRunsHere)
            let stopped = try #require(outcome.source.guestStoppedAtNanoseconds)
            let ended = outcome.source.endedAtNanoseconds
            #expect(ended - stopped < 8_000_000_000, "silence alone would be ten seconds")
            #expect(source.wrongPages() == 0)
        }
    }
}
