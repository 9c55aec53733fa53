internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// How a precopy went.
struct PrecopyOutcome: Sendable {
    let rounds: RoundLog
    /// `nil` when somebody else ended it.
    let decision: SwitchoverDecision?
    /// As of its end.
    let observation: PrecopyObservation
    /// How long the rest would take, by what is left of it.
    let rates: TransferRates
    /// Whether the tracker was started.
    let isTracking: Bool
    /// The most that the vCPUs were throttled.
    let throttlePercent: UInt64
}

/// The source's sender while the guest runs: round after round of what is dirty, until its policy or
/// the user ends it. It alone writes the main channel meanwhile.
///
/// Source: `ram_save_iterate`, `migration_bitmap_sync` (`migration/ram.c`).
struct PrecopyThread: ~Copyable {
    private let state: SourceState
    private let precopy: Precopy
    private let link: SourceLink
    private var writer: SectionWriter
    private var policy: SwitchoverPolicy
    private var converger: AutoConverge?
    private var rates: TransferRates
    private var rounds = RoundLog()
    private var decision: SwitchoverDecision?
    private var pass = Pass()
    private var times: Times

    /// A pass through memory.
    private struct Pass {
        var block = 0
        var page = 0
        var startedAtNanoseconds: UInt64 = 0
        var sentPages: UInt64 = 0
        /// Bytes on all channels when it began.
        var bytesBefore: UInt64 = 0
    }

    private struct Times {
        /// When the first page was due; before that, when the warm-up began.
        var begun: UInt64
        var lastPing: UInt64
        var lastPublished: UInt64 = 0
        var isTracking = false
    }

    private enum Trouble: Error {
        case link(Errno)
        case tracker(String)
    }

    /// Ten times a second is what a terminal shows.
    private static let publishNanoseconds: UInt64 = 100_000_000
    /// A sync costs up to a millisecond for each GiB, and each page written after it a fault of some
    /// 1 us: a round is not shorter than the first, nor than half the downtime limit up to the second.
    private static let roundNanosecondsLeast: UInt64 = 5_000_000
    private static let roundNanosecondsMost: UInt64 = 100_000_000

    init(state: SourceState, precopy: Precopy, link: SourceLink) {
        let now = Monotonic.now()
        self.state = state
        self.precopy = precopy
        self.link = link
        writer = SectionWriter(state: state, link: link)
        policy = SwitchoverPolicy(settings: precopy.options.switchover)
        times = Times(begun: now, lastPing: now)
        rates = TransferRates(pageSizeBytes: PageSize.target.bytes, at: now)
    }

    /// Sends until it is told to stop, or reports why it does so by itself.
    mutating func run() -> PrecopyOutcome {
        preferShortSlices()
        do throws(Trouble) {
            try begin()
            while !isOver { try sendRound() }
            try write { writer throws(Errno) in try writer.end() }
        } catch { report(error) }
        let now = Monotonic.now()
        // What was dirtied meanwhile shows in the last sync, by which it ends.
        if pass.sentPages > 0 { endPass(dirtiedPages: 0, at: now) }
        publish(at: now)
        return PrecopyOutcome(
            rounds: rounds, decision: decision,
            observation: observation(isRoundEnd: false, at: now),
            rates: rates, isTracking: times.isTracking, throttlePercent: converger?.percent ?? 0)
    }

    private func report(_ trouble: Trouble) {
        switch trouble {
        case .link(.again):
            state.report(
                .linkLost, problem: "the destination took nothing for too long", of: link)
        case .link(let error):
            state.report(
                .linkLost, problem: "the link to the destination failed: \(error)", of: link)
        case .tracker(let problem):
            state.report(
                .trackingFailed, problem: "tracking the guest's writes: \(problem)", of: link)
        }
    }

    private var isOver: Bool {
        decision != nil || state.stopsSending.load(ordering: .acquiring)
    }

    // MARK: Rounds

    /// Lets the guest run on, then begins to track.
    private mutating func begin() throws(Trouble) {
        let (end, isEndless) = times.begun.addingReportingOverflow(
            precopy.options.warmUpNanoseconds)
        try wait(until: isEndless ? .max : end)
        guard !isOver else { return }
        link.isMainIdle.withLock { $0 = true }
        do { try precopy.start() } catch { throw .tracker(error.description) }
        link.isMainIdle.withLock { $0 = false }
        times.isTracking = true
        // Everything is dirty; but a kernel's log may have to give out its bits before it clears any.
        _ = try sync()
        let now = Monotonic.now()
        times.begun = now
        rates = TransferRates(pageSizeBytes: PageSize.target.bytes, at: now)
        converger = precopy.options.autoConverge.map { AutoConverge(settings: $0, at: now) }
        beginPass(at: now)
    }

    /// Sends all that is dirty once, then learns what was dirtied meanwhile.
    private mutating func sendRound() throws(Trouble) {
        while !isOver {
            guard let pagesMax = try awaitTurn() else { continue }
            guard try sendSome(pagesMax) > 0 else { break }
            let now = Monotonic.now()
            rates.noteSent(
                bytes: state.counters.sentBytes.precopy, pages: state.counters.sentPages, at: now)
            try look(at: now)
        }
        try write { writer throws(Errno) in try writer.end() }
        try wait(until: pass.startedAtNanoseconds + roundNanosecondsMin)
        guard !isOver else { return }
        let dirtied = UInt64(try sync())
        let now = Monotonic.now()
        rates.noteSync(newlyDirtyPages: dirtied, at: now)
        converge(dirtiedPages: dirtied, at: now)
        endPass(dirtiedPages: dirtied, at: now)
        judge(isRoundEnd: true, at: now)
        publish(at: now)
    }

    /// Answers how many pages were dirtied since the last time.
    private mutating func sync() throws(Trouble) -> Int {
        link.isMainIdle.withLock { $0 = true }
        let count: Int
        do { count = try state.syncDirty(precopy) } catch { throw .tracker("\(error)") }
        link.isMainIdle.withLock { $0 = false }
        if let list = state.takeResizes() {
            try write { writer throws(Errno) in try writer.write(list) }
        }
        return count
    }

    /// Waits for as long as the limit says; answers how many pages may be written, or `nil` when it
    /// is time to look around.
    private mutating func awaitTurn() throws(Trouble) -> Int? {
        guard state.owed.remaining.load(ordering: .relaxed) > 0 else { return writer.room }
        switch state.pace.awaitTurn(nanosecondsMax: Self.roundNanosecondsLeast) {
        case .write(let bytesMax):
            return min(writer.room, max(1, bytesMax / Int(PageSize.target.bytes)))
        case .woken: return nil
        case .early:
            try look(at: Monotonic.now())
            return nil
        }
    }

    /// Sends one write's worth; answers how many pages.
    private mutating func sendSome(_ pagesMax: Int) throws(Trouble) -> Int {
        var count = 0
        while count < pagesMax, let run = takeNext(countMax: pagesMax - count) {
            let block = BlockIndex(rawValue: pass.block)
            // Before the pages are read, or a write in between would be lost.
            do { try precopy.tracker.clear(block, run) } catch { throw .tracker("\(error)") }
            precopy.sent[pass.block].insert(run)
            writer.append(run, of: block)
            count += run.count
        }
        try write { writer throws(Errno) in try writer.flush() }
        state.pace.noteSent(writer.takeWrittenBytes())
        pass.sentPages += UInt64(count)
        return count
    }

    private mutating func takeNext(countMax: Int) -> Range<Int>? {
        while pass.block < state.dirty.count {
            if let run = state.takeRun(of: pass.block, from: pass.page, countMax: countMax) {
                pass.page = run.upperBound
                return run
            }
            pass.block += 1
            pass.page = 0
        }
        return nil
    }

    /// The shortest round: half of the downtime limit, within bounds.
    private var roundNanosecondsMin: UInt64 {
        let half = state.limits.switchover?.downtimeLimitNanoseconds.map { $0 / 2 }
        return min(max(half ?? .max, Self.roundNanosecondsLeast), Self.roundNanosecondsMost)
    }

    private mutating func wait(until end: UInt64) throws(Trouble) {
        while !isOver {
            let now = Monotonic.now()
            guard now < end else { return }
            state.pace.rest(nanoseconds: min(end - now, Self.roundNanosecondsLeast))
            try look(at: Monotonic.now())
        }
    }

    private mutating func beginPass(at now: UInt64) {
        pass = Pass()
        pass.startedAtNanoseconds = now
        pass.bytesBefore = state.counters.sentBytes.precopy
    }

    private mutating func endPass(dirtiedPages: UInt64, at now: UInt64) {
        rounds.append(
            PrecopyRound(
                number: UInt64(rounds.count + 1), startedAtNanoseconds: pass.startedAtNanoseconds,
                durationNanoseconds: now - pass.startedAtNanoseconds, sentPages: pass.sentPages,
                sentBytes: state.counters.sentBytes.precopy - pass.bytesBefore,
                dirtiedPages: dirtiedPages))
        beginPass(at: now)
    }

    private mutating func write(
        _ body: (inout SectionWriter) throws(Errno) -> Void
    ) throws(Trouble) {
        do throws(Errno) { try body(&writer) } catch { throw .link(error) }
    }

    // MARK: Steering

    /// What is due beside sending: the rules of time, progress, a sign of life.
    private mutating func look(at now: UInt64) throws(Trouble) {
        if times.isTracking { judge(isRoundEnd: false, at: now) }
        if now - times.lastPublished >= Self.publishNanoseconds { publish(at: now) }
        guard now - times.lastPing >= state.pingNanoseconds else { return }
        times.lastPing = now
        try write { writer throws(Errno) in
            try writer.send(.ping(PingValue.returnPathOpened.rawValue))
        }
    }

    private mutating func judge(isRoundEnd: Bool, at now: UInt64) {
        if let settings = state.limits.switchover { policy.adopt(settings) }
        guard let decision = policy.decide(observation(isRoundEnd: isRoundEnd, at: now))
        else { return }
        self.decision = decision
        state.report(
            decision.ending == .completesPrecopy ? .restFits : .startPostcopy, of: link)
    }

    private func observation(isRoundEnd: Bool, at now: UInt64) -> PrecopyObservation {
        PrecopyObservation(
            elapsedNanoseconds: now - times.begun, roundsDone: UInt64(rounds.count),
            isRoundEnd: isRoundEnd, remainingBytes: state.remainingBytes,
            totalBytes: state.totalBytes, bandwidthBytesPerSecond: rates.memoryBytesPerSecond,
            dirtyBytesPerSecond: rates.dirtyBytesPerSecond)
    }

    private mutating func converge(dirtiedPages: UInt64, at now: UInt64) {
        let shift = UInt64(PageSize.target.shift)
        let percent = converger?.note(
            dirtiedBytes: dirtiedPages << shift, sentBytes: pass.sentPages << shift, at: now)
        if let percent { state.guest.throttle(percent: Int(percent)) }
    }

    private mutating func publish(at now: UInt64) {
        times.lastPublished = now
        var progress = PrecopyProgress()
        progress.roundCount = rounds.count
        progress.bytesPerSecond = rates.bytesPerSecond
        progress.pagesPerSecond = rates.pagesPerSecond
        progress.dirtyPagesPerSecond = rates.dirtyPagesPerSecond
        progress.expectedDowntimeNanoseconds = rates.expectedDowntimeNanoseconds(
            remainingBytes: state.remainingBytes)
        progress.throttlePercent = converger?.percent ?? 0
        precopy.publish(progress)
    }
}
