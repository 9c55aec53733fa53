import Postcopy
import Synchronization
import TestSupport
import Testing

/// What an embedder may do wrong: none of it does harm in silence.
@Suite struct MisuseTests {
    @Test("a guest and its memory that everybody else let go of live as long as their migration")
    func letGo() throws {
        weak var weakGuest: SampleGuest?
        weak var weakMemory: GuestRAM?
        let (source, destination) = try Self.loneEnds { guest in
            weakGuest = guest
            weakMemory = guest.memory[0]
        }
        #expect(weakGuest != nil && weakMemory != nil)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try destination.start(on: listener)
        source.startPostcopy()
        try source.start(to: address)
        try source.ended().get()
        try destination.ended().get()
    }

    /// Ends whose guests nobody else holds.
    private static func loneEnds(
        _ see: (SampleGuest) -> Void
    ) throws -> (MigrationSource, MigrationDestination) {
        let from = try SampleGuest(megabytes: 1, isFilled: true)
        from.resume()
        see(from)
        return (
            try MigrationSource(guest: from),
            try MigrationDestination(guest: SampleGuest(megabytes: 1))
        )
    }

    @Test("a migration under way needs nobody who keeps its value, and leaves nothing behind")
    func valuesGone() throws {
        weak var weakGuest: SampleGuest?
        let arrived = try SampleGuest(megabytes: 1)
        let isOver = Atomic(false)
        try {
            let from = try SampleGuest(megabytes: 1, isFilled: true)
            from.resume()
            weakGuest = from
            let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
            let address = listener.address
            let source = try MigrationSource(guest: from)
            source.startPostcopy()
            try MigrationDestination(guest: arrived).start(on: listener)
            try source.observe { progress in
                if progress.status == .completed { isOver.store(true, ordering: .releasing) }
            }
            try source.start(to: address)
        }()
        #expect(eventually { isOver.load(ordering: .acquiring) })
        #expect(eventually { arrived.isRunning && arrived.wrongPages == 0 })
        #expect(eventually { weakGuest == nil }, "the guest that has left is kept")
    }

    @Test("memory that a fault handler serves is refused to a migration, and the other way round")
    func memoryServed() throws {
        let guest = try SampleGuest(megabytes: 1)
        var options = FaultHandlerOptions()
        options.faultOrigin = .userOnly
        let handler = try FaultHandler(memory: guest.memory, pages: Zeros(), options: options)
        try handler.start()
        let destination = try MigrationDestination(guest: guest)
        func listener() throws -> Listener { try Listener(at: .tcp(host: "127.0.0.1", port: 0)) }
        let refusal = StartRefusal.memoryInUse(block: "sample.ram")
        #expect(throws: refusal) { try destination.start(on: listener()) }
        #expect(throws: refusal) {
            try MigrationSource(guest: guest).run(to: .unix(path: "/nowhere"))
        }
        handler.stop()
        try destination.start(on: listener())
        let late = try FaultHandler(memory: guest.memory, pages: Zeros(), options: options)
        #expect(throws: FaultHandlerError.memoryInUse(block: "sample.ram")) { try late.start() }
        #expect(try destination.endedByCancel().status == .cancelled)
        try late.start()
        late.stop()
    }

    private struct Zeros: PageProvider {
        func read(
            _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
        ) throws(PageProviderError) -> PageContent { .zeros }
    }

    @Test("memory that is in a migration is refused to another one until that has ended")
    func memoryInUse() throws {
        let ends = try TwoEnds()
        try ends.start()
        let second = try MigrationDestination(guest: SampleGuest(ends.to.memory))
        let third = try MigrationSource(guest: SampleGuest(ends.from.memory))
        let refusal = StartRefusal.memoryInUse(block: "sample.ram")
        let nowhere = ChannelAddress.unix(path: "/nowhere")
        func listener() throws -> Listener { try Listener(at: .tcp(host: "127.0.0.1", port: 0)) }
        #expect(throws: refusal) { try second.start(on: listener()) }
        #expect(throws: refusal) { try third.run(to: nowhere) }
        ends.source.startPostcopy()
        try ends.expectMoved()
        // A refusal leaves it as it was, to be started later.
        #expect(try third.run(to: nowhere).status == .failed)
        second.cancel()
        #expect(try second.run(on: listener()).status == .cancelled)
    }

    @Test("memory of a guest that paused for good is in use until it is given up")
    func pausedMemory() throws {
        var (sends, receives) = (MigrationOptions(), MigrationOptions())
        sends.recovery.mode = .byHand
        sends.maxPostcopyBandwidth = 1
        receives.recovery.mode = .none
        let ends = try TwoEnds(sends: sends, receives: receives)
        ends.source.startPostcopy()
        try ends.start()
        #expect(eventually { ends.source.progress.status == .postcopyActive })
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        #expect(!ends.destination.pause(), "nothing would recover it")
        #expect(ends.source.pause())
        let received = try ends.destination.ended()
        #expect(received.status == .postcopyPaused && received.guest == .here)
        let failure = #expect(throws: MigrationFailure.self) { try received.get() }
        #expect(failure?.guest == .here)
        #expect(eventually { ends.source.abandon() })
        #expect(try ends.source.ended().guest == .there)
        let again = try MigrationDestination(guest: SampleGuest(ends.to.memory))
        let address = listener.address
        #expect(throws: StartRefusal.memoryInUse(block: "sample.ram")) {
            try again.run(on: Listener(at: .tcp(host: "127.0.0.1", port: 0)))
        }
        try ends.destination.abandonGuest()
        // Its memory is others' from here on.
        #expect(throws: AbandonRefusal.notPaused) { try ends.destination.abandonGuest() }
        let source = try MigrationSource(guest: SampleGuest(megabytes: 4, isFilled: true))
        source.startPostcopy()
        try again.start(on: listener)
        try source.start(to: address)
        try source.ended().get()
        try again.ended().get()
    }

    @Test("a guest that still gets its pages, or has them, is not given up")
    func abandonedEarly() throws {
        var sends = MigrationOptions()
        sends.maxPostcopyBandwidth = 1 << 20
        let ends = try TwoEnds(sends: sends)
        #expect(throws: AbandonRefusal.notEnded) { try ends.destination.abandonGuest() }
        ends.source.startPostcopy()
        try ends.start()
        #expect(eventually { ends.destination.progress.status == .postcopyActive })
        #expect(throws: AbandonRefusal.notEnded) { try ends.destination.abandonGuest() }
        try ends.source.setLimits { $0.maxPostcopyBandwidth = nil }
        try ends.expectMoved()
        #expect(throws: AbandonRefusal.notPaused) { try ends.destination.abandonGuest() }
    }

    @Test("a vCPU that never pauses costs the migration, not the guest, and it is said which")
    func neverPauses() throws {
        let gate = try EventFlag()
        var sends = MigrationOptions()
        sends.pauseNanosecondsMax = 2_000_000_000
        let ends = try TwoEnds(sends: sends)
        ends.from.onPause.withLock { $0 = { gate.wait() } }
        ends.source.startPostcopy()
        try ends.start()
        let sent = try ends.source.ended()
        #expect(sent.status == .failed && sent.guest == .here)
        #expect(sent.problem?.contains("did not pause within 2000 ms") == true)
        #expect(try ends.destination.endedByCancel().guest == .there)
        #expect(ends.from.pauseCount.load(ordering: .relaxed) == 0)
        // One that stops after all is let run again: nobody else would.
        gate.raise()
        #expect(eventually { ends.from.pauseCount.load(ordering: .relaxed) == 1 })
        #expect(eventually { ends.from.isRunning })
    }

    @Test("a guest that cancels its own migration while it stops is running when that has ended")
    func cancelsItself() throws {
        let ends = try TwoEnds()
        let source = ends.source
        ends.from.onPause.withLock { $0 = { source.cancel() } }
        source.startPostcopy()
        try ends.start()
        let report = try source.ended()
        #expect(report.status == .cancelled && report.guest == .here && ends.from.isRunning)
        #expect(ends.from.pauseCount.load(ordering: .relaxed) == 1)
        ends.from.onPause.withLock { $0 = nil }
        #expect(try ends.destination.endedByCancel().guest == .there)
    }

    @Test("a migration is cancelled while its guest stops, and the guest runs on")
    func cancelledStop() throws {
        let gate = try EventFlag()
        let isStopping = Atomic(false)
        var sends = MigrationOptions()
        sends.pauseNanosecondsMax = 300_000_000
        let ends = try TwoEnds(sends: sends)
        ends.from.onPause.withLock {
            $0 = {
                isStopping.store(true, ordering: .releasing)
                gate.wait()
            }
        }
        ends.source.startPostcopy()
        try ends.start()
        #expect(eventually { isStopping.load(ordering: .acquiring) })
        ends.source.cancel()
        let report = try ends.source.ended()
        #expect(report.status == .cancelled && report.guest == .here)
        #expect(try ends.destination.endedByCancel().guest == .there)
        gate.raise()
        #expect(eventually { ends.from.pauseCount.load(ordering: .relaxed) == 1 })
        #expect(eventually { ends.from.isRunning })
    }

    @Test("a guest with other RAM blocks than before is refused, or runs on where it is")
    func changedMemory() throws {
        let before = try TwoEnds()
        let more = try SampleGuest(megabytes: 1).memory
        before.from.setMemory(before.from.memory + more)
        before.to.setMemory(more)
        #expect(throws: StartRefusal.memoryChanged) { try before.start() }
        #expect(throws: StartRefusal.memoryChanged) {
            try before.source.run(to: .unix(path: "/nowhere"))
        }
        let during = try TwoEnds()
        try during.start()
        #expect(eventually { during.source.progress.status == .active })
        during.from.setMemory(during.from.memory + more)
        during.source.startPostcopy()
        let report = try during.source.ended()
        #expect(report.status == .failed && report.guest == .here && during.from.isRunning)
        #expect(report.problem?.contains("other RAM blocks") == true)
        #expect(try during.destination.endedByCancel().guest == .there)
    }
}
