import Postcopy
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct StartTests {
    @Test("both sides are started, awaited by anybody, and answer a report that says so")
    func started() throws {
        let ends = try TwoEnds()
        ends.source.startPostcopy()
        try ends.start()
        try ends.expectMoved()
        // Also afterwards, and again.
        #expect(try ends.source.ended().get().guest == .there)
        #expect(try ends.destination.ended().get().guest == .here)
    }

    @Test("tasks wait for both sides and hold up no thread")
    func awaited() async throws {
        let ends = try TwoEnds()
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        ends.source.startPostcopy()
        let source = ends.source
        try ends.destination.start(on: listener)
        async let sent = source.run(to: address)
        let received = try await ends.destination.wait()
        try received.get()
        try await sent.get()
        #expect(ends.to.wrongPages == 0)
    }

    @Test("a task that is cancelled takes a migration back whose guest has not moved")
    func cancelledTask() async throws {
        let ends = try TwoEnds()
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try ends.destination.start(on: listener)
        let source = ends.source
        let task = Task { try await source.run(to: address) }
        #expect(await soon { source.progress.status == .active })
        task.cancel()
        let report = try await task.value
        #expect(report.status == .cancelled && ends.from.isRunning)
        let failure = #expect(throws: MigrationFailure.self) { try report.get() }
        #expect(failure?.guest == .here && failure?.status == .cancelled)
        let received = try await ends.destination.wait()
        #expect(received.status == .failed && received.guest == .there)
    }

    @Test("a failure says its status, why, and where the guest is")
    func failure() throws {
        let guest = try SampleGuest(megabytes: 1)
        guest.resume()
        let source = try MigrationSource(guest: guest)
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        drop(listener)
        let report = try source.run(to: address)
        let failure = #expect(throws: MigrationFailure.self) { try report.get() }
        #expect(failure?.status == .failed && failure?.guest == .here && guest.isRunning)
        #expect(failure?.problem.contains("127.0.0.1") == true)
        #expect(failure?.description.hasSuffix("the guest is here") == true)
        #expect(source.progress.status == .failed)
    }

    @Test("each begins once, however it is begun, and is not awaited before")
    func twice() throws {
        let ends = try TwoEnds()
        let (source, destination) = (ends.source, ends.destination)
        #expect(throws: StartRefusal.notStarted) { try source.wait() }
        #expect(throws: StartRefusal.notStarted) { try destination.wait() }
        source.startPostcopy()
        try ends.start()
        let nowhere = ChannelAddress.tcp(host: "127.0.0.1", port: 1)
        func listener() throws -> Listener { try Listener(at: .tcp(host: "127.0.0.1", port: 0)) }
        for _ in 0..<2 {
            #expect(throws: StartRefusal.alreadyStarted) { try source.start(to: nowhere) }
            #expect(throws: StartRefusal.alreadyStarted) { try source.run(to: nowhere) }
            #expect(throws: StartRefusal.alreadyStarted) { try destination.start(on: listener()) }
            #expect(throws: StartRefusal.alreadyStarted) { try destination.run(on: listener()) }
            try ends.expectMoved()
        }
    }

    @Test("of those who start it at once, one does")
    func race() throws {
        let ends = try TwoEnds()
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let (source, address) = (ends.source, listener.address)
        try ends.destination.start(on: listener)
        source.startPostcopy()
        let gate = try EventFlag()
        let threads = try (0..<8).map { _ in
            try Bounded("starter") {
                gate.wait()
                return Result { () throws(StartRefusal) in try source.start(to: address) }
            }
        }
        gate.raise()
        var refusals = 0
        for thread in threads {
            let result = try #require(thread.output())
            if case .failure(let refusal) = result {
                #expect(refusal == .alreadyStarted)
                refusals += 1
            }
        }
        #expect(refusals == 7)
        try ends.expectMoved()
    }

    @Test("nobody waits for a start that is refused")
    func refusedStart() throws {
        let guest = try SampleGuest(megabytes: 1)
        let others = try SampleGuest(megabytes: 1).memory
        let source = try MigrationSource(guest: guest)
        let (isStarting, gate) = (try EventFlag(), try EventFlag())
        guest.onMemory.withLock {
            $0 = {
                isStarting.raise()
                gate.wait()
            }
        }
        let starting = try Bounded("starter") {
            Result { () throws(StartRefusal) in try source.start(to: .unix(path: "/nowhere")) }
        }
        #expect(isStarting.wait(timeoutNanoseconds: 20_000_000_000))
        let waiting = try Bounded("waiter") {
            Result { () throws(StartRefusal) in try source.wait() }
        }
        let waited = waiting.output()
        guest.setMemory(others)
        gate.raise()
        let started = try #require(starting.output())
        #expect(throws: StartRefusal.memoryChanged) { try started.get() }
        #expect(throws: StartRefusal.notStarted) { try #require(waited).get() }
    }

    @Test("a session below traps on a second run")
    func secondRun() async {
        await #expect(processExitsWith: .failure) {
            let guest = try SampleGuest(megabytes: 1)
            let session = try SourceSession(guest: guest, options: MigrationOptions())
            _ = session.run(to: .unix(path: "/nowhere"))
            _ = session.run(to: .unix(path: "/nowhere"))
        }
    }

    private func drop(_ listener: consuming Listener) {}
}
