import Postcopy
import Synchronization
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(2))) struct ProgressTests {
    private static let way: [MigrationStatus] = [
        .setup, .active, .device, .postcopyDevice, .postcopyActive, .completed,
    ]

    @Test("a task reads every status in order, and the end")
    func statuses() async throws {
        let ends = try TwoEnds()
        let updates = try ends.source.updates()
        let received = try ends.destination.updates(everyNanoseconds: 0)
        ends.source.startPostcopy()
        try ends.start()
        async let there = Self.statuses(in: received)
        #expect(await Self.statuses(in: updates) == Self.way)
        #expect(await there == Self.way.filter { $0 != .device })
        try ends.expectMoved()
    }

    @Test("a reader that comes late, or is slow, misses no status")
    func slowReader() async throws {
        let ends = try TwoEnds()
        let early = try ends.source.updates(everyNanoseconds: 0)
        ends.source.startPostcopy()
        try ends.start()
        try ends.expectMoved()
        // Nobody has read a word until now.
        #expect(await Self.statuses(in: early) == Self.way)
        #expect(await Self.statuses(in: try ends.source.updates()) == Self.way)
    }

    @Test("figures come at their interval, and those that nobody reads make room for newer ones")
    func figures() async throws {
        let ends = try TwoEnds()
        let count = Atomic(0)
        let observation = try ends.source.observe(everyNanoseconds: 0) { _ in
            count.add(1, ordering: .relaxed)
        }
        let unread = try ends.source.updates(everyNanoseconds: 0)
        try ends.start()
        #expect(await soon { count.load(ordering: .relaxed) >= 20 })
        ends.source.startPostcopy()
        try ends.expectMoved()
        var read = 0
        for await _ in unread { read += 1 }
        // One figure at most before each status.
        #expect(read <= 2 * Self.way.count)
        observation.cancel()
    }

    @Test("a reading task that is cancelled stops reading, and the migration goes on")
    func cancelledReader() async throws {
        let ends = try TwoEnds()
        let updates = try ends.source.updates()
        let isReading = Atomic(false)
        let reader = Task {
            var last: MigrationStatus?
            for await progress in updates {
                last = progress.status
                isReading.store(true, ordering: .releasing)
            }
            return last
        }
        try ends.start()
        #expect(await soon { isReading.load(ordering: .acquiring) })
        reader.cancel()
        let last = await reader.value
        #expect(last != .completed)
        ends.source.startPostcopy()
        try ends.expectMoved()
    }

    @Test("a callback that blocks holds up neither the migration nor another one")
    func blockedCallback() throws {
        let ends = try TwoEnds()
        let gate = try EventFlag()
        let blocked = Mutex<[MigrationStatus]>([])
        let free = Mutex<[MigrationStatus]>([])
        try ends.source.observe { progress in
            gate.wait()
            blocked.withLock { $0.append(progress.status) }
        }
        try ends.source.observe { progress in free.withLock { $0.append(progress.status) } }
        ends.source.startPostcopy()
        try ends.start()
        try ends.expectMoved()
        #expect(eventually { free.withLock { $0.last } == .completed })
        #expect(blocked.withLock { $0 } == [])
        gate.raise()
        #expect(eventually { blocked.withLock { $0.last } == .completed })
        #expect(Self.withoutRepeats(blocked.withLock { $0 }) == Self.way)
    }

    @Test("a callback that is cancelled, also by itself, is called no more")
    func cancelledCallback() throws {
        let ends = try TwoEnds()
        let calls = Atomic(0)
        let own = Mutex<MigrationObservation?>(nil)
        let observation = try ends.source.observe(everyNanoseconds: 0) { _ in
            calls.add(1, ordering: .relaxed)
            own.withLock { $0 }?.cancel()
        }
        own.withLock { $0 = observation }
        let after = Mutex<[MigrationStatus]>([])
        try ends.source.observe(everyNanoseconds: 0) { progress in
            after.withLock { $0.append(progress.status) }
        }
        try ends.start()
        #expect(eventually { after.withLock { $0.count } > 20 })
        #expect(calls.load(ordering: .relaxed) == 1)
        ends.source.startPostcopy()
        try ends.expectMoved()
        #expect(calls.load(ordering: .relaxed) == 1)
    }

    @Test("a migration that is thrown away before it began ends what would have told of it")
    func neverStarted() async throws {
        var ends: TwoEnds? = try TwoEnds()
        let updates = try #require(ends).source.updates()
        ends = nil
        #expect(await Self.statuses(in: updates) == [])
    }

    private static func statuses<Progress>(
        in updates: AsyncStream<Progress>
    ) async -> [MigrationStatus] {
        var statuses: [MigrationStatus] = []
        for await progress in updates {
            if let progress = progress as? SourceProgress { statuses.append(progress.status) }
            if let progress = progress as? DestinationProgress { statuses.append(progress.status) }
        }
        return withoutRepeats(statuses).filter { $0 != .none }
    }

    private static func withoutRepeats(_ statuses: [MigrationStatus]) -> [MigrationStatus] {
        statuses.reduce(into: []) { if $0.last != $1 { $0.append($1) } }
    }
}
