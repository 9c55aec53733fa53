internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// How a precopy went.
struct PrecopyOutcome: Sendable {
    var rounds = RoundLog()
    /// `nil` when somebody else ended it.
    var decision: SwitchoverDecision?
    /// As of the last look.
    var observation = PrecopyObservation()
    /// Whether the tracker was started.
    var isTracking = false
    var throttlePercentMax = 0
}

/// The source's sender while the guest runs: round after round of what is dirty, until its policy or
/// the user ends it. It alone writes the main channel meanwhile.
///
/// Source: `ram_save_iterate`, `migration_bitmap_sync` (`migration/ram.c`).
struct PrecopyThread: ~Copyable {
    private let state: SourceState
    private let precopy: Precopy
    private var writer: SectionWriter
    private var policy: SwitchoverPolicy
    private var converger: AutoConverge?
    private var rates: TransferRates
    private var outcome = PrecopyOutcome()
    private var pass = Pass()
    private var times = Times()
    private var throttlePercent = 0

    /// A pass through memory.
    private struct Pass {
        var round = PrecopyRound()
        var block = 0
        var page = 0
        /// Bytes on all channels when it began.
        var bytesBefore: UInt64 = 0
    }

    private struct Times {
        var begun = Monotonic.now()
        var lastPing = Monotonic.now()
        var lastPublished: UInt64 = 0
        var period = Period(begunAtNanoseconds: Monotonic.now())
    }

    /// What the converger has not judged yet.
    private struct Period {
        let begunAtNanoseconds: UInt64
        var dirtiedPages: UInt64 = 0
        var sentPages: UInt64 = 0
    }

    enum Trouble: Error {
        case link(Errno)
        case tracker(String)
    }

    /// A live source is heard once a second, see `SourceControl`.
    private static let pingNanoseconds: UInt64 = 1_000_000_000
    /// Ten times a second is what a terminal shows.
    private static let publishNanoseconds: UInt64 = 100_000_000
    /// A sync costs up to a millisecond for each GiB, and each page written after it a fault of some
    /// 1 us: a round is not shorter than the first, nor than half the downtime limit up to the second.
    private static let roundNanosecondsLeast: UInt64 = 5_000_000
    private static let roundNanosecondsMost: UInt64 = 100_000_000
    /// QEMU judges once a second; a link of today moves in a quarter of it what one did then.
    private static let convergeNanoseconds: UInt64 = 250_000_000

    init(state: SourceState, precopy: Precopy, link: SourceLink) {
        self.state = state
        self.precopy = precopy
        writer = SectionWriter(state: state, link: link)
        policy = SwitchoverPolicy(precopy.options.switchover)
        converger = precopy.options.autoConverge.map(AutoConverge.init)
        rates = TransferRates()
    }

    /// Sends until it is told to stop, or reports why it does so by itself.
    mutating func run() -> PrecopyOutcome {
        preferShortSlices()
        do throws(Trouble) {
            try warmUp()
            while !isOver { try sendRound() }
            try link { writer throws(Errno) in try writer.end() }
        } catch {
            switch error {
            case .link(.again):
                state.report(.linkLost, problem: "the destination took nothing for too long")
            case .link(let error):
                state.report(
                    .linkLost, problem: "the link to the destination failed: \(error)")
            case .tracker(let problem):
                state.report(.trackingFailed, problem: "tracking the guest's writes: \(problem)")
            }
        }
        let now = Monotonic.now()
        outcome.observation = observation(isRoundEnd: false, at: now)
        // What was dirtied meanwhile shows in the last sync.
        if pass.round.sentPages > 0 { endPass(dirtiedPages: 0, at: now) }
        publish(at: now)
        return outcome
    }

    private var isOver: Bool {
        outcome.decision != nil || state.stopsSending.load(ordering: .acquiring)
    }

    // MARK: Rounds

    /// Lets the guest run, then begins to track and to send.
    private mutating func warmUp() throws(Trouble) {
        let end = times.begun + precopy.options.warmUpNanoseconds
        try wait(until: end)
        guard !isOver else { return }
        do { try precopy.start() } catch { throw .tracker(error.description) }
        outcome.isTracking = true
        // Everything is dirty; but a kernel's log may have to give out its bits before it clears any.
        _ = try sync()
        times.begun = Monotonic.now()
        times.period = Period(begunAtNanoseconds: times.begun)
        beginPass(number: 1, at: times.begun)
    }

    /// Sends all that is dirty once, then learns what was dirtied meanwhile.
    private mutating func sendRound() throws(Trouble) {
        while !isOver, try sendSome() > 0 { try look() }
        try link { writer throws(Errno) in try writer.end() }
        try wait(until: pass.round.startedAtNanoseconds + roundNanosecondsMin)
        guard !isOver else { return }
        let dirtied = try sync()
        let now = Monotonic.now()
        rates.noteSync(dirtiedPages: UInt64(dirtied), at: now)
        endPass(dirtiedPages: UInt64(dirtied), at: now)
        converge(at: now)
        judge(isRoundEnd: true, at: now)
        publish(at: now)
    }

    /// Answers how many pages were dirtied since the last time.
    private mutating func sync() throws(Trouble) -> Int {
        let count: Int
        do { count = try state.syncDirty(precopy) } catch { throw .tracker("\(error)") }
        if let list = state.takeResizes() {
            try link { writer throws(Errno) in try writer.write(list) }
        }
        return count
    }

    /// Sends one write's worth; answers how many pages.
    private mutating func sendSome() throws(Trouble) -> Int {
        var count = 0
        while writer.room > 0, let run = takeNext(countMax: writer.room) {
            let block = BlockIndex(rawValue: pass.block)
            // Before the pages are read, or a write in between would be lost.
            do { try precopy.tracker.clear(block, run) } catch { throw .tracker("\(error)") }
            precopy.sent[pass.block].insert(run)
            writer.append(run, of: block)
            count += run.count
        }
        try link { writer throws(Errno) in try writer.flush() }
        pass.round.sentPages += UInt64(count)
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
        let half = precopy.options.switchover.downtimeLimitNanoseconds.map { $0 / 2 }
        return min(max(half ?? .max, Self.roundNanosecondsLeast), Self.roundNanosecondsMost)
    }

    private mutating func wait(until end: UInt64) throws(Trouble) {
        while !isOver {
            let now = Monotonic.now()
            guard now < end else { return }
            _ = state.senderFlag.wait(
                timeoutNanoseconds: min(end - now, Self.roundNanosecondsLeast))
            state.senderFlag.clear()
            try look()
        }
    }

    private mutating func beginPass(number: Int, at now: UInt64) {
        pass = Pass()
        pass.round.number = number
        pass.round.startedAtNanoseconds = now
        pass.bytesBefore = state.counters.sentBytes.precopy
    }

    private mutating func endPass(dirtiedPages: UInt64, at now: UInt64) {
        var round = pass.round
        round.durationNanoseconds = now - round.startedAtNanoseconds
        round.sentBytes = state.counters.sentBytes.precopy - pass.bytesBefore
        round.dirtiedPages = dirtiedPages
        outcome.rounds.append(round)
        times.period.dirtiedPages += dirtiedPages
        times.period.sentPages += round.sentPages
        beginPass(number: round.number + 1, at: now)
    }

    private mutating func link(
        _ write: (inout SectionWriter) throws(Errno) -> Void
    ) throws(Trouble) {
        do throws(Errno) { try write(&writer) } catch { throw .link(error) }
    }

    // MARK: Steering

    /// What is due beside sending: the rules of time, a sign of life, progress.
    private mutating func look() throws(Trouble) {
        let now = Monotonic.now()
        rates.noteSent(
            bytes: state.counters.sentBytes.precopy, pages: state.counters.sentPages, at: now)
        judge(isRoundEnd: false, at: now)
        if now - times.lastPublished >= Self.publishNanoseconds { publish(at: now) }
        guard now - times.lastPing >= Self.pingNanoseconds else { return }
        times.lastPing = now
        try link { writer throws(Errno) in
            try writer.send(.ping(PingValue.returnPathOpened.rawValue))
        }
    }

    private mutating func judge(isRoundEnd: Bool, at now: UInt64) {
        guard outcome.decision == nil,
            let decision = policy.decide(observation(isRoundEnd: isRoundEnd, at: now))
        else { return }
        outcome.decision = decision
        state.report(decision.ending == .precopy ? .restFits : .startPostcopy)
    }

    private func observation(isRoundEnd: Bool, at now: UInt64) -> PrecopyObservation {
        PrecopyObservation(
            elapsedNanoseconds: now - times.begun, roundsDone: outcome.rounds.count,
            isRoundEnd: isRoundEnd,
            remainingBytes: state.remainingBytes, totalBytes: state.totalBytes,
            bandwidthBytesPerSecond: rates.memoryBytesPerSecond,
            dirtyBytesPerSecond: rates.dirtyBytesPerSecond)
    }

    private mutating func converge(at now: UInt64) {
        let period = times.period
        guard var converger, now - period.begunAtNanoseconds >= Self.convergeNanoseconds else {
            return
        }
        let page = PageSize.target.bytes
        let percent = converger.note(
            dirtiedBytes: period.dirtiedPages * page, sentBytes: period.sentPages * page)
        self.converger = converger
        times.period = Period(begunAtNanoseconds: now)
        guard let percent else { return }
        throttlePercent = percent
        outcome.throttlePercentMax = max(outcome.throttlePercentMax, percent)
        state.guest.throttle(percent: percent)
    }

    private mutating func publish(at now: UInt64) {
        times.lastPublished = now
        var progress = PrecopyProgress()
        progress.roundCount = outcome.rounds.count
        progress.bytesPerSecond = rates.bytesPerSecond
        progress.pagesPerSecond = rates.pagesPerSecond
        progress.dirtyPagesPerSecond = rates.dirtyPagesPerSecond
        progress.expectedDowntimeNanoseconds = rates.expectedDowntimeNanoseconds(
            remainingBytes: state.remainingBytes)
        progress.throttlePercent = throttlePercent
        precopy.publish(progress)
    }
}
