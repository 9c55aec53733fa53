internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The precopy of one migration as the control thread sees it.
struct PrecopyRun: ~Copyable {
    var thread: JoinableThread<PrecopyOutcome>?
    var outcome: PrecopyOutcome?
    /// What made the guest stop.
    var decision: SwitchoverDecision?
    var finalSyncNanoseconds: UInt64 = 0
    /// Pages that the last sync found dirty.
    var lastDirtied = 0
    var restWasSent = false
    var owedPages = 0
    var isThrottleLifted = false

    /// `nil` before the precopy has ended.
    var report: PrecopyReport? {
        guard let outcome else { return nil }
        var report = PrecopyReport()
        report.rounds = outcome.rounds.kept
        // The last round ends with the guest stopped, in the last sync.
        if let last = report.rounds.indices.last {
            report.rounds[last].dirtiedPages += UInt64(lastDirtied)
        }
        report.roundCount = outcome.rounds.count
        report.restWasSent = restWasSent
        report.owedPages = owedPages
        report.finalSyncNanoseconds = finalSyncNanoseconds
        report.throttlePercent = outcome.throttlePercent
        report.decision = decision
        return report
    }
}

// What precedes the switch where memory is sent while the guest runs.
extension SourceControl {
    mutating func startPrecopy() {
        guard let precopy = state.precopy else { return }
        let (state, link) = (state, link)
        do {
            self.precopy.thread = try JoinableThread<PrecopyOutcome>(name: "pc-send") {
                var thread = PrecopyThread(state: state, precopy: precopy, link: link)
                let outcome = thread.run()
                link.isPrecopyOver.store(true, ordering: .releasing)
                state.controlFlag.raise()
                return outcome
            }
        } catch {
            apply(.linkLost, problem: "no thread for the precopy: \(error)")
        }
    }

    /// Waits until the precopy's sender has left the main channel, or the migration has ended.
    mutating func stopPrecopy() {
        guard precopy.thread != nil else { return }
        state.stopsSending.store(true, ordering: .releasing)
        state.wakeSender()
        while case .stopping = phase, !link.isPrecopyOver.load(ordering: .acquiring) {
            _ = state.controlFlag.wait(timeoutNanoseconds: .max)
            state.controlFlag.clear()
            takeMessages()
        }
        // A sender that waits for a destination that takes nothing is woken by the end of the link.
        if !link.isPrecopyOver.load(ordering: .acquiring) { link.main.shutDownSending() }
        precopy.outcome = precopy.thread.take()?.join()
        if case .stopping(let ending) = phase { noteDecision(ending) }
        state.stopsSending.store(false, ordering: .releasing)
    }

    /// The policy's word, unless the user's came first.
    private mutating func noteDecision(_ ending: SourcePhase.Ending) {
        guard let outcome = precopy.outcome else { return }
        let isPolicys =
            outcome.decision.map { ($0.ending == .completesPrecopy) == (ending == .precopy) }
            ?? false
        precopy.decision = isPolicys ? outcome.decision : .byHand(outcome.observation)
    }

    /// Lets the vCPUs run at full speed: not before they have stopped, where they do.
    mutating func liftThrottle() {
        guard let outcome = precopy.outcome, outcome.throttlePercent > 0, !precopy.isThrottleLifted
        else { return }
        precopy.isThrottleLifted = true
        state.guest.throttle(percent: 0)
    }

    /// Ends the tracking, which takes some 20 ms for each GiB: once the destination has heard how the
    /// migration ended.
    func endTracking() { state.precopy?.tracker.stop() }

    /// Learns what is owed; `false` when the tracker cannot say.
    mutating func settleMemory() -> Bool {
        guard let settled = state.precopy else { return true }
        let begun = Monotonic.now()
        let isTracked = precopy.outcome?.isTracking == true
        do { precopy.lastDirtied = try state.settleDirty(settled, isTracked: isTracked) } catch {
            apply(.trackingFailed, problem: "tracking the guest's writes: \(error)")
            return false
        }
        precopy.finalSyncNanoseconds = Monotonic.now() - begun
        return true
    }

    /// Sends all that is dirty, unless more was dirtied since the decision than fits, or the link is
    /// slower than it was: then what is left is owed, and the guest does not wait for it.
    mutating func sendRest() throws(Errno) {
        guard restFits, let limit = downtimeLimit else { return try sendDiscards() }
        let patience = limit + limit / 2
        // A destination that takes nothing must not keep the guest standing.
        link.main.limitWaits(
            nanoseconds: min(state.options.silenceNanosecondsMax, Self.restWaitNanosecondsMax))
        defer { link.main.limitWaits(nanoseconds: state.options.silenceNanosecondsMax) }
        var writer = SectionWriter(state: state, link: link)
        for block in state.dirty.indices {
            var page = 0
            while let run = state.takeRun(of: block, from: page, countMax: writer.room) {
                state.precopy?.sent[block].insert(run)
                writer.append(run, of: BlockIndex(rawValue: block))
                page = run.upperBound
                guard writer.room == 0 else { continue }
                try writer.flush()
                takeMessages()
                guard phase == .device else { return }
                if Monotonic.now() - (times.guestStopped ?? 0) > patience {
                    try writer.end()
                    return try sendDiscards()
                }
            }
        }
        try writer.end()
        precopy.restWasSent = true
        try sendDiscards()
    }

    /// How long a write of the rest may take: lost packets are sent again after 0.2, 0.6 and 1.4 s.
    private static let restWaitNanosecondsMax: UInt64 = 2_000_000_000

    private var downtimeLimit: UInt64? {
        state.limits.switchover?.downtimeLimitNanoseconds
    }

    private var restFits: Bool {
        guard let outcome = precopy.outcome, let limit = downtimeLimit else { return false }
        let rest = outcome.rates.expectedDowntimeNanoseconds(remainingBytes: state.remainingBytes)
        return rest.map { $0 <= limit } ?? false
    }

    /// Tells the destination what it has and must not use: exactly what is owed from here on.
    mutating func sendDiscards() throws(Errno) {
        if let settled = state.precopy { state.canonicalize(settled) }
        precopy.owedPages = state.owed.remaining.load(ordering: .relaxed)
        if precopy.owedPages == 0 { state.oweOnePage() }
        var encoder = DiscardEncoder()
        for dirty in state.discards {
            try encoder.encode(dirty) { bytes throws(Errno) in try send(bytes) }
        }
        try encoder.finish { bytes throws(Errno) in try send(bytes) }
        discards = encoder.totals
    }
}
