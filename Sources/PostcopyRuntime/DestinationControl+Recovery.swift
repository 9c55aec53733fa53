internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

// What follows when a link has broken.
extension DestinationControl {
    /// How long a source that missed the last word finds somebody: it has knocked dozens of times by
    /// then.
    private static let afterEndNanosecondsMax: UInt64 = 30_000_000_000
    /// One that was told so on a link that was whole comes back, if ever, at once.
    private static let afterRefusalNanoseconds: UInt64 = 2_000_000_000
    /// One that was answered may have missed that, and asks again: twice its longest wait.
    private static let afterAnswerNanoseconds: UInt64 = 2_500_000_000

    mutating func pause() {
        guard state.options.recovery.mode != .none else {
            isDone = true
            return
        }
        isBroken = true
        let broken = LinkBreak(
            problem: state.log.problem ?? "the link broke",
            heardAtNanoseconds: state.counters.heardAtNanoseconds.load(ordering: .relaxed),
            pausedAtNanoseconds: Monotonic.now())
        let missing = state.missingPages
        state.recovery.update { progress in
            progress.missing = missing
            progress.refusal =
                progress.note(broken) ? nil : "the link broke again before pages could flow"
        }
    }

    mutating func resume() {
        // The link may have broken since.
        switch state.currentPhase {
        case .listening, .loaded, .running, .streamEnded: break
        case .none, .setup, .advised, .discarding, .completed, .paused, .recovering, .failed: return
        }
        hand.hasRecovered = false
        if state.demand.missing.load(ordering: .relaxed) == 0 {
            perform(state.advance(.allPagesPlaced))
        }
        if case .loaded = state.currentPhase { commit(state.advance(.run)) }
    }

    /// Waits for the source of a migration whose link broke. Whoever waits for a page waits meanwhile.
    /// - Returns: `nil` when the migration has ended instead.
    mutating func awaitSource(isCancelled: borrowing Atomic<Bool>) -> DestinationLink? {
        var patience = SourcePatience(state, isHeld: hand.isHeld)
        while !isDone {
            if let visitor = returning.take(), let link = consider(visitor) { return link }
            patience.look(state)
            for visitor in awaitVisitors(timeoutNanoseconds: patience.leftNanoseconds) {
                if let link = consider(visitor) { return link }
            }
            if heedWishes() { patience = SourcePatience(state, isHeld: hand.isHeld) }
            if isCancelled.load(ordering: .acquiring) { state.cancel() }
            takeMessages()
        }
        outcome.endedAtNanoseconds = Monotonic.now()
        return nil
    }

    private mutating func consider(_ visitor: Door.Visitor) -> DestinationLink? {
        switch visitor {
        case .hello(let hello, let arrival):
            let verdict = judge(hello)
            if case .welcome(let answer) = verdict { return admit(arrival, answer) }
            refuse(arrival, verdict.answer)
            return nil
        case .bitmapRequest(let arrival):
            guard !state.isSourceOurs else { return nil }
            let isExpected =
                state.options.recovery.mode == .automatic ? !hand.isHeld : hand.hasRecovered
            if isExpected { return admit(arrival, nil) }
            returning = visitor
            state.recovery.update { $0.refusal = "the source has come back and may not go on yet" }
            return nil
        case .migration:
            state.counters.otherMigrations.add(1, ordering: .relaxed)
            return nil
        case .other: return nil
        }
    }

    /// Whether somebody has paused it, and it is paused still: one that has ended tells how.
    private var isHeld: Bool { hand.isHeld && state.currentPhase.status == .postcopyPaused }

    func verdict(on hello: ChannelHello) -> RecoveryGate.Verdict {
        if isHeld { return .refuse(hello.token == gate.token ? .busy : .stranger) }
        return gate.verdict(on: hello, in: state.currentPhase)
    }

    /// As `verdict`; whoever is welcome is let in at once.
    mutating func judge(_ hello: ChannelHello) -> RecoveryGate.Verdict {
        guard !isHeld else { return verdict(on: hello) }
        return gate.judge(hello, in: state.currentPhase)
    }

    mutating func refuse(_ arrival: Arrival, _ answer: RecoveryAnswer) {
        let reason =
            switch answer {
            case .busy where isHeld: "the destination was paused by hand"
            case .busy: "a later link of the same migration was let in"
            case .stranger: "the migration here is not this source's"
            case .neverRan: state.log.problem ?? "the guest never ran here"
            case .completed, .running, .waiting: ""
            }
        if answer == .stranger || answer == .busy {
            state.recovery.update { $0.refusal = "a source was turned away: \(reason)" }
        }
        if answer == .neverRan || answer == .completed { hasToldEnd = true }
        arrival.refuse(answer, reason: reason)
    }

    private mutating func admit(
        _ arrival: Arrival, _ answer: RecoveryAnswer?
    ) -> DestinationLink? {
        guard let link = try? DestinationLink(arrival, isResumed: true) else { return nil }
        returning = nil
        _ = state.advance(.reconnected)
        state.recovery.update { $0.waitsForSomebody = false }
        state.recovery.updateLast {
            $0.attempts += 1
            $0.linkBackAtNanoseconds = Monotonic.now()
        }
        state.offer(link)
        if let answer { state.outbox.post(.message(.recoveryAnswer(answer))) }
        return link
    }

    /// Does what the user wished; answers whether sources are to be expected otherwise than before.
    @discardableResult
    mutating func heedWishes() -> Bool {
        var wishes = state.recovery.takeWishes()
        let wasHeld = hand.isHeld
        if wishes.abandons { abandon() }
        if wishes.pauses {
            perform(state.advance(state.linkLoss, problem: "paused by hand"))
            if case .paused = state.currentPhase { hand.isHeld = true }
        }
        guard wishes.recovers else { return hand.isHeld != wasHeld }
        // A link that came back meanwhile needs no leave, nor does the next one have it.
        hand = Hand(isHeld: false, hasRecovered: state.currentPhase.status == .postcopyPaused)
        if let listener = wishes.listener.take() { door.move(to: listener) }
        return true
    }

    /// A guest that never ran here can still run at the source, which is told so.
    private mutating func abandon() {
        switch state.currentPhase {
        case .paused(.running):
            outcome.isAbandoned = true
            isDone = true
        case .recovering(.running):
            perform(state.advance(state.linkLoss, problem: "given up by hand"))
            outcome.isAbandoned = true
            isDone = true
        case .paused, .recovering:
            outcome.isAbandoned = true
            perform(state.advance(.givenUp, problem: "given up by hand"))
        case .none, .setup, .advised, .discarding, .listening, .loaded, .running, .streamEnded,
            .completed, .failed:
            break
        }
    }

    /// Tells a source that comes back after the end how it ended. It could not know otherwise whether
    /// the guest is safe here, or may run there.
    ///
    /// - Parameter isAcknowledged: whether the source has heard of the end.
    /// - Parameter wasHeard: whether it was there to hear of it, as far as this side knows.
    mutating func answerLatecomers(
        _ isAcknowledged: Bool, wasHeard: Bool, isCancelled: borrowing Atomic<Bool>
    ) {
        let phase = state.currentPhase
        let isUnsure =
            phase.hasFailed && state.recovery.isSwitchNear.load(ordering: .acquiring)
        guard state.isSourceOurs, state.options.recovery.mode != .none, !isAcknowledged,
            phase == .completed || isUnsure
        else { return door.close() }
        let lasting = latecomersNanoseconds(wasHeard: wasHeard)
        let begun = Monotonic.now()
        var deadline = begun &+ min(lasting, .max - begun)
        if isUnsure {
            // What gave a paused guest up must not also keep that from its source; once more ends the wait.
            if state.recovery.isGivenUp.exchange(false, ordering: .relaxed) {
                isCancelled.store(false, ordering: .relaxed)
            }
            let farewell = Farewell(
                problem: state.log.problem ?? "the link broke", untilNanoseconds: deadline)
            state.recovery.update { $0.farewell = farewell }
        }
        defer { state.recovery.update { $0.farewell = nil } }
        var visitors = returning.take().map { [$0] } ?? []
        while true {
            for case .hello(let hello, let arrival) in visitors {
                let answer = judge(hello).answer
                refuse(arrival, answer)
                guard answer != .stranger else { continue }
                deadline = min(deadline, Monotonic.now() + Self.afterAnswerNanoseconds)
            }
            let now = Monotonic.now()
            guard now < deadline, !state.recovery.takeWishes().abandons,
                !isCancelled.load(ordering: .acquiring)
            else { return door.close() }
            visitors = awaitVisitors(timeoutNanoseconds: deadline - now)
        }
    }

    /// How long a source may still come that does not know how it ended.
    private func latecomersNanoseconds(wasHeard: Bool) -> UInt64 {
        if hasToldEnd { return Self.afterAnswerNanoseconds }
        guard state.currentPhase.hasFailed else { return Self.afterEndNanosecondsMax }
        // It keeps a guest that never ran here for as long as it knocks.
        return wasHeard
            ? Self.afterRefusalNanoseconds : state.options.recovery.lastingNanoseconds
    }
}

extension RecoveryGate.Verdict {
    /// What whoever is not let in hears.
    fileprivate var answer: RecoveryAnswer {
        switch self {
        case .refuse(let answer), .welcome(let answer): answer
        case .endOldLink: .busy
        }
    }
}
