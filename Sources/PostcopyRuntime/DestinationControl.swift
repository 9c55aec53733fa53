internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The destination's control thread: accepts channels, has the devices loaded, starts the guest, takes
/// a source back whose link broke, ends.
struct DestinationControl: ~Copyable {
    let state: DestinationState
    private var door: Door
    private var gate: RecoveryGate
    private var messages: [DestinationMessage] = []
    private(set) var isDone = false
    private var isBroken = false
    private var tellsSource = false
    /// Loads the devices meanwhile: they may need pages, and the link may break and come back.
    private var loader: JoinableThread<Void>?
    /// What the package asked to be answered once the guest is committed.
    private var pings: [UInt32] = []
    private var hand = Hand()
    /// The source, which came back before it could be let in: its old link was up as far as this side
    /// knew, or nobody has said yet that it may. A QEMU up to 7.2 that is turned away in a recovery
    /// stays in it for ever, so that it is kept waiting instead.
    private var returning: Door.Visitor?
    private(set) var outcome = Outcome()

    struct Outcome {
        var guestRunningAtNanoseconds: UInt64?
        var endedAtNanoseconds: UInt64 = 0
        var isAbandoned = false
    }

    /// What the user has asked for.
    private struct Hand {
        /// Nobody is let in until he says so.
        var isHeld = false
        /// He has asked for a source that does not come by itself.
        var hasRecovered = false
    }

    init(state: DestinationState, door: consuming Door) {
        self.state = state
        self.door = door
        gate = RecoveryGate(token: state.recovery.token)
    }

    /// Waits for the source's first connection; `nil` when the user gave up waiting.
    mutating func acceptMain(isCancelled: borrowing Atomic<Bool>) -> Arrival? {
        while !isCancelled.load(ordering: .acquiring) {
            for visitor in awaitVisitors(timeoutNanoseconds: .max) {
                switch visitor {
                case .migration(let arrival), .other(let arrival), .bitmapRequest(let arrival):
                    return arrival
                case .hello(_, let arrival):
                    arrival.refuse(.stranger, reason: "no migration is paused here")
                }
            }
        }
        return nil
    }

    /// Does what the phases ask for until the migration has ended or its link is broken.
    mutating func run(_ link: DestinationLink, isCancelled: borrowing Atomic<Bool>) {
        isBroken = false
        while !isDone, !isBroken {
            for visitor in awaitVisitors(timeoutNanoseconds: .max) { receive(visitor, on: link) }
            heedWishes()
            if isCancelled.load(ordering: .acquiring) { state.cancel() }
            takeMessages()
        }
        if isDone { outcome.endedAtNanoseconds = Monotonic.now() }
    }

    /// How long to wait for the source's own closing: only a source that was told has a reason to.
    func linger(_ nanoseconds: UInt64) -> UInt64 { tellsSource ? nanoseconds : 0 }

    /// Waits until the guest has its devices or knows that it will not: before, its memory must stay.
    mutating func joinLoader() { loader.take()?.join() }

    private mutating func takeMessages() {
        state.control.drain(into: &messages)
        for message in messages {
            switch message {
            case .event(let event): perform(state.advance(event))
            case .perform(let action): perform(action)
            case .devices(let sections, let pings): load(sections, pings)
            case .loaded(let refusal): takeLoaded(refusal)
            }
        }
        messages.removeAll(keepingCapacity: true)
    }

    private mutating func perform(_ action: DestinationAction) {
        switch action {
        case .none, .refuse, .prepareMemory, .dropRanges, .startListening, .allowCommit,
            .awaitPages, .sendBitmap:
            break
        case .startGuest: startGuest()
        case .startGuestThenShut:
            startGuest()
            finish(tellingSource: 0)
        case .sendShut(let error): finish(tellingSource: error)
        case .closeStream: isDone = true
        case .pause: pause()
        case .resumePages: resume()
        }
    }

    /// Has the devices loaded. A link that broke since the package was read does not matter.
    private mutating func load(_ sections: [UInt8], _ pings: [UInt32]) {
        guard !state.currentPhase.hasFailed else { return }
        self.pings = pings
        let state = state
        do {
            loader = try JoinableThread<Void>(name: "pc-load") {
                do throws(GuestError) {
                    try state.guest.loadDevices(sections)
                    state.control.post(.loaded(nil))
                } catch { state.control.post(.loaded(error)) }
            }
        } catch {
            state.report(.deviceRefused, problem: "no thread to load the devices: \(error)")
        }
    }

    private mutating func takeLoaded(_ refusal: GuestError?) {
        loader.take()?.join()
        if let refusal {
            let problem = "the guest refused its device state: \(refusal)"
            return perform(state.advance(.deviceRefused, problem: problem))
        }
        commit(state.commit())
    }

    private mutating func commit(_ action: DestinationAction) {
        guard action == .startGuest || action == .startGuestThenShut else { return }
        for value in pings { state.outbox.post(.message(.pong(value))) }
        perform(action)
    }

    private mutating func startGuest() {
        let threads = state.guest.vcpuThreads
        state.vcpuThreads.withLock { $0 = threads }
        state.guest.resume()
        outcome.guestRunningAtNanoseconds = Monotonic.now()
    }

    private mutating func finish(tellingSource error: UInt32) {
        if error == 0 {
            state.guest.memoryArrived()
        } else if let problem = state.log.problem {
            // Goes out only to a source that has asked what this side can do.
            state.outbox.post(.message(.refusalReason(problem)))
        }
        state.outbox.post(.message(.shut(error)))
        tellsSource = true
        isDone = true
    }

    private mutating func receive(_ visitor: Door.Visitor, on link: DestinationLink) {
        switch visitor {
        case .hello(let hello, let arrival) where hello.channel == .urgent:
            guard state.isSourceOurs, gate.admits(urgent: hello) else {
                return arrival.refuse(.stranger, reason: "this is no channel of the migration here")
            }
            link.deliver(UrgentArrival(arrival: arrival, isKnown: true))
            state.faultFlag.raise()
        case .hello(let hello, let arrival):
            // It is judged again, for good, once the old link has ended.
            switch verdict(on: hello) {
            case .refuse(let answer): refuse(arrival, answer)
            case .welcome, .endOldLink:
                returning = visitor
                perform(
                    state.advance(
                        state.linkLoss, problem: "the source came back on a new link"))
            }
        case .other(let arrival):
            // One of ours says who it is.
            guard !state.isSourceOurs, !link.hasUrgent.load(ordering: .acquiring) else { return }
            link.deliver(UrgentArrival(arrival: arrival, isKnown: false))
            state.faultFlag.raise()
        case .migration: state.counters.otherMigrations.add(1, ordering: .relaxed)
        case .bitmapRequest: if !state.isSourceOurs { returning = visitor }
        }
    }

    private mutating func awaitVisitors(timeoutNanoseconds: UInt64) -> [Door.Visitor] {
        var poller = Poller(capacity: 1 + Door.watchedMax)
        let flag = poller.watch(state.controlFlag)
        let places = door.watch(in: &poller)
        _ = poller.wait(timeoutNanoseconds: door.limit(timeoutNanoseconds))
        if poller.isReady(flag) { state.controlFlag.clear() }
        return door.take(poller, places)
    }
}

// What follows when a link has broken.
extension DestinationControl {
    /// Whom a QEMU or a source of ours finds that comes back after the end, at most for so long: until
    /// then it has tried a dozen times.
    private static let afterEndNanosecondsMax: UInt64 = 30_000_000_000
    private static let afterRefusalNanoseconds: UInt64 = 2_000_000_000
    /// Once it was answered it may have missed that, and asks again.
    private static let afterAnswerNanoseconds: UInt64 = 2_500_000_000

    private mutating func pause() {
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

    private mutating func resume() {
        // The link may have broken since.
        switch state.currentPhase {
        case .listening, .loaded, .running, .streamEnded: break
        case .none, .setup, .advised, .discarding, .completed, .paused, .recovering, .failed: return
        }
        state.recovery.noteResumed()
        hand.hasRecovered = false
        if state.demand.missing.load(ordering: .relaxed) == 0 {
            perform(state.advance(.allPagesPlaced))
        }
        if case .loaded = state.currentPhase { commit(state.advance(.run)) }
    }

    /// Waits for the source of a migration whose link broke. Whoever waits for a page waits meanwhile.
    /// - Returns: `nil` when the migration has ended instead.
    mutating func awaitSource(isCancelled: borrowing Atomic<Bool>) -> DestinationLink? {
        var patience = SourcePatience(state)
        while !isDone {
            if let visitor = returning.take(), let link = consider(visitor) { return link }
            patience.look(state)
            for visitor in awaitVisitors(timeoutNanoseconds: patience.leftNanoseconds) {
                if let link = consider(visitor) { return link }
            }
            if heedWishes() { patience = SourcePatience(state) }
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

    private func verdict(on hello: ChannelHello) -> RecoveryGate.Verdict {
        if hand.isHeld { return .refuse(hello.token == gate.token ? .busy : .stranger) }
        return gate.verdict(on: hello, in: state.currentPhase)
    }

    /// As `verdict`; whoever is welcome is let in at once.
    private mutating func judge(_ hello: ChannelHello) -> RecoveryGate.Verdict {
        guard !hand.isHeld else { return verdict(on: hello) }
        return gate.judge(hello, in: state.currentPhase)
    }

    private mutating func refuse(_ arrival: Arrival, _ answer: RecoveryAnswer) {
        let reason =
            switch answer {
            case .busy where hand.isHeld: "the destination was paused by hand"
            case .busy: "a later link of the same migration was let in"
            case .stranger: "the migration here is not this source's"
            case .neverRan: state.log.problem ?? "the guest never ran here"
            case .completed, .running, .waiting: ""
            }
        if answer == .stranger || answer == .busy {
            state.recovery.update { $0.refusal = "a source was turned away: \(reason)" }
        }
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

    /// Does what the user wished; answers whether sources are to be expected anew.
    @discardableResult
    private mutating func heedWishes() -> Bool {
        var wishes = state.recovery.takeWishes()
        if wishes.abandons { abandon() }
        if wishes.pauses {
            perform(state.advance(state.linkLoss, problem: "paused by hand"))
            if case .paused = state.currentPhase { hand.isHeld = true }
        }
        guard wishes.recovers else { return false }
        hand = Hand(isHeld: false, hasRecovered: true)
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
        // The source keeps a guest that never ran here for as long as it knocks.
        let lasting =
            wasHeard
            ? Self.afterRefusalNanoseconds
            : isUnsure ? state.options.recovery.lastingNanoseconds : Self.afterEndNanosecondsMax
        let begun = Monotonic.now()
        var deadline = begun &+ min(lasting, .max - begun)
        while true {
            let now = Monotonic.now()
            guard now < deadline, !state.recovery.takeWishes().abandons,
                !isCancelled.load(ordering: .acquiring)
            else { return door.close() }
            if case .hello(let hello, let arrival)? = returning.take() {
                refuse(arrival, judge(hello).answer)
                deadline = min(deadline, now + Self.afterAnswerNanoseconds)
            }
            for visitor in awaitVisitors(timeoutNanoseconds: deadline - now) {
                if case .hello = visitor { returning = visitor }
            }
        }
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
