internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The destination's control thread: accepts channels, has the devices loaded, starts the guest, takes
/// a source back whose link broke, ends.
struct DestinationControl: ~Copyable {
    let state: DestinationState
    var door: Door
    var gate: RecoveryGate
    private var messages: [DestinationMessage] = []
    var isDone = false
    var isBroken = false
    var tellsSource = false
    /// Whether a source that came back has heard how it ended.
    var hasToldEnd = false
    /// Loads the devices meanwhile: they may need pages, and the link may break and come back.
    private var loader: JoinableThread<Void>?
    /// What the package asked to be answered once the guest is committed.
    private var pings: [UInt32] = []
    var hand = Hand()
    /// The source, which came back before it could be let in: its old link was up as far as this side
    /// knew, or nobody has said yet that it may. A QEMU up to 7.2 that is turned away in a recovery
    /// stays in it for ever, so that it is kept waiting instead.
    var returning: Door.Visitor?
    var outcome = Outcome()

    struct Outcome {
        var guestRunningAtNanoseconds: UInt64?
        var endedAtNanoseconds: UInt64 = 0
        var isAbandoned = false
    }

    /// What the user has asked for.
    struct Hand {
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

    mutating func takeMessages() {
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

    mutating func perform(_ action: DestinationAction) {
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

    mutating func commit(_ action: DestinationAction) {
        guard action == .startGuest || action == .startGuestThenShut else { return }
        for value in pings { state.outbox.post(.message(.pong(value))) }
        perform(action)
    }

    /// The kernel needs some 50 us for each vCPU; one that takes longer is not worth the downtime.
    private static let clockNanosecondsMax: UInt64 = 10_000_000

    private mutating func startGuest() {
        let vcpus = NamedVCPUs(
            threads: state.guest.vcpuThreads, atNanoseconds: Monotonic.now())
        state.vcpuThreads.withLock { $0 = vcpus }
        state.faultFlag.raise()
        // Their first faults are many, and come at once.
        if state.options.timesFaultsInKernel {
            _ = state.vcpusNoted.wait(timeoutNanoseconds: Self.clockNanosecondsMax)
        }
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
            // The package may be whole in what is not read yet, and would be lost with the old link: that
            // ends by itself, where the source has left it.
            case .endOldLink where state.currentPhase.isBeforeSwitch:
                arrival.refuse(.busy, reason: "the first link is still being read")
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

    mutating func awaitVisitors(timeoutNanoseconds: UInt64) -> [Door.Visitor] {
        var poller = Poller(capacity: 1 + Door.watchedMax)
        let flag = poller.watch(state.controlFlag)
        let places = door.watch(in: &poller)
        _ = poller.wait(timeoutNanoseconds: door.limit(timeoutNanoseconds))
        if poller.isReady(flag) { state.controlFlag.clear() }
        return door.take(poller, places)
    }
}
