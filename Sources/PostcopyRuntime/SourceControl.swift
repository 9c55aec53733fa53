internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The source's control thread: moves the guest, and owns the phase and the deadlines.
struct SourceControl: ~Copyable {
    let state: SourceState
    /// The one that is up, or broke last.
    var link: SourceLink
    /// Where that is connected.
    var address: ChannelAddress
    private let announce: (MigrationStatus) -> Void
    private(set) var phase = SourcePhase.none
    var log = PhaseLog()
    private var sender: JoinableThread<Void>?
    var precopy = PrecopyRun()
    var discards = DiscardTotals()
    private var messages: [SourceMessage] = []
    /// Taken and not yet applied, the next one last.
    private var pending: [SourceMessage] = []
    /// Nothing is left to do on the link.
    private var isDone = false
    private(set) var times = Times()
    var comeback: Comeback

    struct Times {
        var guestStopped: UInt64?
        var committed: UInt64?
        var lastPing: UInt64 = 0
        /// Since when the phase waits for something of the destination's.
        var waitingSince: UInt64 = 0
    }

    /// How long the destination's last words may take once the link is down.
    private static let lastWordsNanosecondsMax: UInt64 = 500_000_000

    init(
        state: SourceState, link: SourceLink, address: ChannelAddress,
        announce: @escaping (MigrationStatus) -> Void
    ) {
        self.state = state
        self.link = link
        self.address = address
        self.announce = announce
        comeback = Comeback(addresses: [address] + state.options.recovery.addresses)
    }

    /// Runs the phases until the migration has ended or paused.
    mutating func run() {
        apply(.connected)
        follow()
        stopPrecopy()
        liftThrottle()
    }

    /// Does what the link and the user ask for, until the migration has ended or the link broke.
    mutating func follow() {
        while !isDone {
            _ = state.controlFlag.wait(timeoutNanoseconds: state.pingNanoseconds / 4)
            state.controlFlag.clear()
            takeMessages()
            if !isDone { watchTheClock() }
        }
        stopSender()
    }

    /// Gets ready for another link.
    mutating func begin(on link: SourceLink, at address: ChannelAddress) {
        self.link = link
        self.address = address
        isDone = false
        times.waitingSince = Monotonic.now()
    }

    /// What the return path brought after the end: the destination's word may settle what is open.
    mutating func takeLastWords() { takeMessages() }

    func conclude(_ report: inout SourceReport) {
        state.recovery.end(isPaused: log.status == .postcopyPaused)
        report.breaks = state.recovery.progress.breaks
        report.status = log.status
        report.changes = log.changes
        report.guestRunsHere = phase.mayRunGuestHere
        report.guestStoppedAtNanoseconds = times.guestStopped
        report.committedAtNanoseconds = times.committed
        report.discards = discards
        report.precopy = precopy.report
        // What is owed after a pause is counted in these lengths.
        if log.status != .postcopyPaused { state.list.thawLengths() }
        guard log.status != .completed else { return }
        // Once cancelled, the end of the link is this side's own doing.
        report.problem = log.status == .cancelled ? "cancelled" : log.problem
        if log.status == .postcopyPaused { concludePaused(&report) }
    }

    mutating func takeMessages() {
        state.control.drain(into: &messages)
        pending.insert(contentsOf: messages.reversed(), at: 0)
        messages.removeAll(keepingCapacity: true)
        while let message = pending.popLast() {
            // An earlier link is over, whatever it still has to say.
            guard message.link == nil || message.link == link.number else { continue }
            apply(message.event, problem: message.problem)
        }
    }

    mutating func apply(_ event: SourceEvent, problem: String? = nil) {
        if event == .committed, times.committed == nil { times.committed = Monotonic.now() }
        let (next, action) = phase.after(event)
        if case .shut = event, next != phase, let problem { log.replace(with: problem) }
        if let problem { log.note(problem) }
        if case .failed(let failure) = next { log.note(failure.description) }
        let last = phase
        if next != phase { times.waitingSince = Monotonic.now() }
        phase = next
        follow(from: last, problem: problem)
        // A commit out of order means nothing, and the guest stays.
        if event == .committed, !next.mayRunGuestHere {
            state.isCommitted.store(true, ordering: .releasing)
        }
        log.enter(next.status)
        announce(next.status)
        do throws(Errno) { try perform(action) } catch {
            apply(.linkLost, problem: "the link to the destination failed: \(error)")
        }
        if case .shut = event, next != last { acknowledgeEnd() }
    }

    private mutating func perform(_ action: SourceAction) throws(Errno) {
        switch action {
        case .none, .refuse, .refuseCancel, .awaitCommit: break
        case .sendSetup:
            try sendSetup()
            // Behind the head: a QEMU from 10.1 on tells the main channel by its first bytes.
            if state.options.preemptTiming == .atSetup { connectUrgent() }
        case .awaitStart:
            connectUrgent()
            if phase == .active { startPrecopy() }
        case .stopGuest: try stopGuest()
        case .sendDiscards: try leave { control throws(Errno) in try control.sendDiscards() }
        case .sendRest: try leave { control throws(Errno) in try control.sendRest() }
        case .sendPackage:
            beginPostcopy()
            try sendPackage()
            // A package that was cut off by hand would be worth nothing.
            _ = state.recovery.adopt(link)
            apply(.packageSent)
        case .streamPages: startSender()
        case .sendEnd: try sendEnd()
        case .finish, .keepGuestRunning: isDone = true
        case .resumeGuest: resumeGuest()
        case .pause: pause()
        case .askBitmaps: try askBitmaps()
        case .sendResume: try sendResume()
        }
    }

    /// Writes what must be there before the package.
    private mutating func leave(
        _ write: (inout SourceControl) throws(Errno) -> Void
    ) throws(Errno) {
        guard state.hasSameMemory else { return refuseChangedMemory() }
        guard settleMemory() else { return }
        if let list = state.takeResizes() { try send(list) }
        try write(&self)
        // The last chance of a user who cancels, or of a destination that has gone.
        takeMessages()
        guard phase == .device else { return }
        if link.isEndedByPeer {
            apply(.linkLost, problem: "the destination closed the link")
        } else {
            apply(.packageStarted)
        }
    }

    /// What the guest gained would be lost without a word.
    private mutating func refuseChangedMemory() {
        apply(
            .trackingFailed,
            problem: "the guest has other RAM blocks than when the source was made: it goes on "
                + "here; make another source for it")
    }

    /// Opens the urgent channel: the destination answered, so that it knows the main one. Done while
    /// the guest still runs.
    mutating func connectUrgent() {
        guard state.options.preempt, !link.hasUrgent else { return }
        do {
            let limit =
                link.isResumption
                ? Self.reconnectNanosecondsMax : StreamSocket.connectTimeoutNanoseconds
            let socket = try StreamSocket.connect(to: address, timeoutNanoseconds: limit)
            ChannelTuning.prepare(socket, state.options)
            try sayHello(on: socket)
            link.deliver(urgent: socket)
            state.returnPathFlag.raise()
        } catch {
            apply(.linkLost, problem: "the urgent channel: \(error)")
        }
    }

    private mutating func stopGuest() throws(Errno) {
        stopPrecopy()
        guard case .stopping = phase else { return }
        connectUrgent()
        try awaitAnswer()
        guard case .stopping = phase else { return }
        // A hint under way ends while the guest still runs.
        state.precopy?.closeHints()
        state.counters.enter(.downtime)
        guard pauseGuest() else { return }
        state.list.freezeLengths()
        liftThrottle()
        apply(.guestStopped)
    }

    /// Stops the guest; `false` when it goes on here, since it did not stop in time or the migration
    /// ended meanwhile.
    private mutating func pauseGuest() -> Bool {
        let stop: GuestStop
        do { stop = try GuestStop(of: state.guest, raising: state.controlFlag) } catch {
            apply(.linkLost, problem: "no thread to stop the guest: \(error)")
            return false
        }
        state.guestStop.withLock { $0 = stop }
        let limit = state.options.pauseNanosecondsMax
        let deadline = Monotonic.deadline(afterNanoseconds: limit)
        while case .stopping = phase, !stop.isStopped {
            let now = Monotonic.now()
            guard now < deadline else {
                apply(
                    .deadlinePassed,
                    problem: "the guest's vCPUs did not pause within \(limit / 1_000_000) ms "
                        + "(Guest.pause has not returned): the guest stays here, and runs on as soon "
                        + "as that returns")
                return false
            }
            _ = state.controlFlag.wait(timeoutNanoseconds: deadline - now)
            state.controlFlag.clear()
            takeMessages()
        }
        if case .stopping = phase {
            times.guestStopped = stop.begunAtNanoseconds
            return true
        }
        // Whoever hears that the guest stays here finds it running, if it stops in time at all.
        while stop.isUnwanted {
            let now = Monotonic.now()
            guard now < deadline else { break }
            _ = state.controlFlag.wait(timeoutNanoseconds: deadline - now)
            state.controlFlag.clear()
        }
        return false
    }

    /// Asks the destination whether it is there before the guest stops: one that has died or hangs
    /// would leave the guest nowhere.
    private mutating func awaitAnswer() throws(Errno) {
        try send(ping: .beforePackage)
        let deadline = Monotonic.deadline(afterNanoseconds: state.options.silenceNanosecondsMax)
        while case .stopping = phase, !link.isDestinationReady.load(ordering: .acquiring) {
            let now = Monotonic.now()
            guard now < deadline else { return giveUpWaiting() }
            _ = state.controlFlag.wait(timeoutNanoseconds: deadline - now)
            state.controlFlag.clear()
            takeMessages()
        }
    }

    private mutating func startSender() {
        state.counters.enter(.postcopy)
        state.limits.enterPostcopy()
        let (state, link) = (state, link)
        do {
            sender = try JoinableThread<Void>(name: "pc-send") {
                var thread = BackgroundThread(state: state, link: link)
                thread.run()
            }
        } catch {
            apply(.linkLost, problem: "no thread for the background sender: \(error)")
        }
    }

    private mutating func sendEnd() throws(Errno) {
        stopSender()
        var bytes: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: state.ramSection, last: true, to: &bytes)
        StreamEncoder.appendSectionEnd(id: state.ramSection, to: &bytes)
        StreamEncoder.appendEndOfStream(to: &bytes)
        try send(bytes)
        link.endsUrgent.store(true, ordering: .releasing)
        state.returnPathFlag.raise()
    }

    private mutating func resumeGuest() {
        isDone = true
        guard let guestStop = state.guestStop.withLock({ $0 }) else { return }
        state.list.thawLengths()
        // A stop that is still under way is undone by the thread that is at it.
        if guestStop.undoes() { state.guest.resume() }
    }

    /// The destination's last word may still be on its way, and can settle what is open.
    private mutating func pause() {
        isDone = true
        stopSender()
        let patience =
            mayKnock
            ? min(Self.lastWordsNanosecondsMax, state.options.linkLimitInForce)
            : Self.lastWordsNanosecondsMax
        _ = link.returnPathEnded.wait(timeoutNanoseconds: patience)
    }

    private mutating func stopSender() {
        // The return-path thread may wait for room in a queue that nobody empties.
        if phase != .completing {
            state.stopsSending.store(true, ordering: .releasing)
            state.wakeSender()
        }
        guard let thread = sender.take() else { return }
        // A sender that waits for a destination that takes nothing is woken by the end of the link.
        if phase != .completing { link.main.shutDownSending() }
        thread.join()
    }

    private mutating func watchTheClock() {
        let now = Monotonic.now()
        let limit = state.options.silenceNanosecondsMax
        switch phase {
        case .setup, .active, .postcopyDevice(allPagesSent: true), .completing:
            // A destination that loads its devices for long still answers PINGs meanwhile.
            if now - times.lastPing >= state.pingNanoseconds { ping(at: now) }
            let heard = max(
                times.waitingSince, state.counters.heardAtNanoseconds.load(ordering: .relaxed))
            if now > heard, now - heard >= limit { giveUpWaiting() }
        case .recovering:
            // Nobody else writes. A QEMU hears no PING before it has resumed.
            guard state.recovery.peer == nil else {
                if now - times.lastPing >= state.pingNanoseconds { ping(at: now) }
                break
            }
            let heard = max(
                times.waitingSince, state.counters.heardAtNanoseconds.load(ordering: .relaxed))
            if now > heard, now - heard >= limit { giveUpWaiting() }
        case .none, .stopping, .device, .sendingPackage, .postcopyDevice(allPagesSent: false),
            .postcopyActive, .completed, .paused, .failed, .cancelled:
            // While pages are written, a destination that takes none ends the write.
            break
        }
        judgeLink(at: now)
    }

    private mutating func ping(at now: UInt64) {
        times.lastPing = now
        do throws(Errno) {
            switch phase {
            case .active where precopy.thread != nil:
                // The precopy's sender writes its own while it writes.
                try link.isMainIdle.withLock { isIdle throws(Errno) in
                    if isIdle { try send(ping: .returnPathOpened) }
                }
            case .active, .postcopyDevice, .recovering: try send(ping: .returnPathOpened)
            // PING 1 is on its way already, or the stream has ended.
            default: return
            }
        } catch {
            apply(.linkLost, problem: "the link to the destination failed: \(error)")
        }
    }

    private mutating func giveUpWaiting() {
        let limit = state.options.silenceNanosecondsMax / 1_000_000
        apply(.deadlinePassed, problem: "the destination kept silent for \(limit) ms")
    }
}
