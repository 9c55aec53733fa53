internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// How a source whose link broke comes back.
struct Comeback {
    /// Where the destination may be; the one tried first in front.
    var addresses: [ChannelAddress]
    /// Attempts of the whole migration.
    var number: UInt32 = 0
    /// When the next attempt is due; `nil`: when somebody says so.
    var schedule: RecoverySchedule?
    /// How many of them somebody asked for; `nil`: as many as the schedule has.
    var attemptsLeft: Int?
    /// Whether an attempt has begun that neither failed nor brought pages back.
    var isTrying = false
    /// Why it will fail.
    var trouble: String?
    var connectedAtNanoseconds: UInt64 = 0
    /// Attempts in a row that were refused because nobody listens.
    var refusedInRow = 0
    var watch = UnreadWatch()
    /// How the last link came back: one that broke again at once is waited for longer.
    private var last: (schedule: RecoverySchedule, resumedAtNanoseconds: UInt64)?

    init(addresses: [ChannelAddress]) { self.addresses = addresses }

    /// A link that lasts as long is no sign that the next one breaks too.
    private static let lastingNanosecondsMin: UInt64 = 1_000_000_000

    /// Pages flow again.
    mutating func end(at now: UInt64) {
        isTrying = false
        last = schedule.map { ($0, now) }
        schedule = nil
    }

    /// The link broke; goes on with the waits of the last break where that was just now.
    mutating func begin(_ fresh: RecoverySchedule, at now: UInt64) {
        schedule = fresh
        guard let last, now - last.resumedAtNanoseconds < Self.lastingNanosecondsMin else { return }
        schedule?.resume(from: last.schedule, at: now)
    }

    var dueNanoseconds: UInt64? { attemptsLeft == 0 ? nil : schedule?.nextAttemptNanoseconds }
}

extension SourceControl {
    /// A host that is there answers within this time; others are tried again.
    static let reconnectNanosecondsMax: UInt64 = 1_000_000_000

    /// Whether the migration has paused and may be taken up on another link.
    var mayComeBack: Bool {
        guard case .paused = phase else { return false }
        return state.recovery.isOffered
    }

    /// Whether a destination of ours answers a source that comes back.
    var mayKnock: Bool { state.recovery.isOffered && state.recovery.peer != nil }

    mutating func note(trouble: String) { comeback.trouble = comeback.trouble ?? trouble }

    /// From here on the link carries the guest.
    func beginPostcopy() {
        guard state.recovery.peer != nil else { return }
        state.keepBeat()
    }

    /// Takes note of a link that broke or came back.
    mutating func follow(from last: SourcePhase, problem: String?) {
        if comeback.isTrying, let problem { note(trouble: problem) }
        switch (last, phase) {
        case (.paused, _), (.recovering, .paused): break
        case (_, .paused): noteBreak()
        case (.recovering, .postcopyDevice), (.recovering, .postcopyActive): noteResumed()
        default: break
        }
    }

    private mutating func noteBreak() {
        let now = Monotonic.now()
        if state.recovery.isHeld { log.replace(with: "paused by hand") }
        state.recovery.note(
            LinkBreak(
                problem: log.problem ?? "the link to the destination failed",
                heardAtNanoseconds: state.counters.heardAtNanoseconds.load(ordering: .relaxed),
                pausedAtNanoseconds: now))
        comeback.refusedInRow = 0
        comeback.attemptsLeft = nil
        comeback.schedule = nil
        if isAutomatic { comeback.begin(schedule(from: now), at: now) }
    }

    private mutating func noteResumed() {
        let now = Monotonic.now()
        comeback.end(at: now)
        log.forgetProblem()
        state.recovery.noteLink(backAtNanoseconds: comeback.connectedAtNanoseconds)
        state.recovery.noteResumed(atNanoseconds: now)
    }

    private var isAutomatic: Bool {
        state.options.recovery.mode == .automatic && state.recovery.peer != nil
    }

    private func schedule(from now: UInt64) -> RecoverySchedule {
        RecoverySchedule(
            addressCount: comeback.addresses.count, from: now,
            lastingNanoseconds: isAutomatic ? state.options.recovery.lastingNanoseconds : nil)
    }

    /// What the report says of a guest that is still owed pages.
    func concludePaused(_ report: inout SourceReport) {
        report.isAbandoned = state.recovery.isAbandoned
        var problem = report.problem ?? "the link to the destination failed"
        if report.isAbandoned {
            if let refusal = state.recovery.progress.refusal { problem += "; then \(refusal)" }
            problem += "; given up by hand"
        } else if state.options.recovery.mode != .none, state.options.releasesRAM {
            problem += "; it cannot be recovered, since memory was given back as it was sent"
        }
        report.problem = problem
    }
}

// Between two links.
extension SourceControl {
    /// Waits until another link is connected; `nil` once somebody gave the guest up.
    mutating func nextLink() -> SourceLink? {
        state.recovery.forgetLink()
        if comeback.isTrying { endAttempt() }
        state.clearRequests()
        while let index = awaitTurn() {
            let address = comeback.addresses[index]
            if let link = connect(to: address) { return link }
            endAttempt()
        }
        return nil
    }

    /// Waits until an attempt is due and begins it; answers at which address.
    private mutating func awaitTurn() -> Int? {
        while true {
            takeMessages()
            let now = Monotonic.now()
            switch state.recovery.takeWish() {
            case .abandon: return nil
            case .hold: comeback.schedule = nil
            case .recover(let addresses):
                if !addresses.isEmpty { comeback.addresses = addresses }
                comeback.schedule = schedule(from: now)
                comeback.attemptsLeft = isAutomatic ? nil : comeback.addresses.count
                comeback.refusedInRow = 0
            case nil: break
            }
            let due = comeback.dueNanoseconds
            state.recovery.noteWaiting(forSomebody: due == nil)
            if let due, due <= now { return beginAttempt() }
            _ = state.controlFlag.wait(timeoutNanoseconds: due.map { $0 - now } ?? .max)
            state.controlFlag.clear()
        }
    }

    private mutating func beginAttempt() -> Int? {
        comeback.number += 1
        comeback.isTrying = true
        comeback.trouble = nil
        comeback.attemptsLeft = comeback.attemptsLeft.map { $0 - 1 }
        state.recovery.noteAttempt(backOffNanoseconds: comeback.schedule?.stepNanoseconds ?? 0)
        return comeback.schedule?.begin()
    }

    private mutating func endAttempt() {
        comeback.isTrying = false
        comeback.schedule?.failed(at: Monotonic.now())
        if let trouble = comeback.trouble { state.recovery.note(refusal: trouble) }
    }

    private mutating func connect(to address: ChannelAddress) -> SourceLink? {
        let link: SourceLink
        do {
            let socket = try StreamSocket.connect(
                to: address, timeoutNanoseconds: Self.reconnectNanosecondsMax)
            ChannelTuning.prepare(socket, state.options)
            link = try SourceLink(main: socket, number: comeback.number)
        } catch let error as ChannelError {
            note(trouble: refusal(error))
            return nil
        } catch {
            note(trouble: "\(error)")
            return nil
        }
        comeback.refusedInRow = 0
        comeback.connectedAtNanoseconds = Monotonic.now()
        guard state.recovery.adopt(link) else { return nil }
        state.counters.heardAtNanoseconds.store(
            comeback.connectedAtNanoseconds, ordering: .relaxed)
        begin(on: link, at: link.main.peerAddress ?? address)
        return link
    }

    /// A process that is gone has left nobody who could take the guest up.
    private mutating func refusal(_ error: ChannelError) -> String {
        guard error.cause == .kernel(.connectionRefused) || error.cause == .kernel(.noEntry) else {
            comeback.refusedInRow = 0
            return "\(error)"
        }
        comeback.refusedInRow += 1
        let text = "connecting to \(error.address): nobody listens there"
        guard comeback.refusedInRow >= comeback.addresses.count else { return text }
        let (left, all) = (state.remainingBytes >> 10, state.totalBytes >> 10)
        return text + " nor anywhere else that was named; if the destination's process has ended, "
            + "the guest is lost with it, and \(left) of \(all) KiB were not sent yet"
    }
}

// On a link that continues an earlier one.
extension SourceControl {
    mutating func comeBack() {
        if let peer = state.recovery.peer, !mayGoOn(peer) { return }
        apply(.reconnected)
        follow()
    }

    /// Says who this is; answers whether the destination takes it back.
    private mutating func mayGoOn(_ peer: SourceRecovery.Peer) -> Bool {
        do throws(Errno) { try sendHello(peer.token) } catch {
            note(trouble: "the link to the destination failed: \(error)")
            return false
        }
        guard let answer = awaitWelcome() else { return false }
        let reason = reason(behind: answer).map { ": \(PeerText.plain($0))" } ?? ""
        switch answer {
        case .waiting: return true
        case .running:
            apply(.committed)
            return true
        case .completed: settle(.shut(error: 0), "the destination says that it has everything")
        case .neverRan: settle(.shut(error: 1), "the destination never ran the guest\(reason)")
        case .stranger: note(trouble: "the destination does not know this migration\(reason)")
        case .busy: note(trouble: "the destination is busy\(reason)")
        }
        return false
    }

    /// Takes a last word, where it fits what this side knows.
    private mutating func settle(_ event: SourceEvent, _ what: String) {
        state.recovery.noteLink(backAtNanoseconds: comeback.connectedAtNanoseconds)
        apply(event, problem: event == .shut(error: 0) ? nil : what)
        guard case .paused = phase else { return }
        note(trouble: "\(what), which cannot be")
    }

    private mutating func awaitWelcome() -> RecoveryAnswer? {
        let limit = state.options.handshakeNanosecondsMax
        let start = Monotonic.now()
        while true {
            let welcome = link.welcome.withLock { $0 }
            if let answer = welcome.answer { return answer }
            // What broke it is among the messages.
            takeMessages()
            let passed = Monotonic.now() - start
            guard !welcome.isOver, passed < limit else {
                note(trouble: "the destination said nothing for \(limit / 1_000_000) ms")
                return nil
            }
            _ = state.controlFlag.wait(timeoutNanoseconds: limit - passed)
            state.controlFlag.clear()
        }
    }

    /// Why a destination refuses: it may say so in front of its answer or behind it.
    private func reason(behind answer: RecoveryAnswer) -> String? {
        if answer == .waiting || answer == .running { return nil }
        let limit = state.options.linkLimitInForce
        if link.welcome.withLock({ $0.reason == nil }) {
            _ = link.returnPathEnded.wait(timeoutNanoseconds: limit)
        }
        return link.welcome.withLock { $0.reason }
    }

    mutating func askBitmaps() throws(Errno) {
        // A QEMU up to 7.2 reads nothing before both channels are there.
        if state.recovery.peer == nil, state.options.preemptTiming == .atSetup { connectUrgent() }
        guard case .recovering = phase else { return }
        try sendBitmapQuestions()
    }

    mutating func sendResume() throws(Errno) {
        connectUrgent()
        guard case .recovering = phase else { return }
        link.asksToResume.store(true, ordering: .releasing)
        state.returnPathFlag.raise()
        try sendResumeCommand()
    }

    /// Begins an urgent channel of a link that comes back.
    func sayHello(on urgent: borrowing StreamSocket) throws(Errno) {
        guard link.isResumption, let peer = state.recovery.peer else { return }
        var bytes: [UInt8] = []
        ChannelHello(token: peer.token, channel: .urgent, attempt: link.number).append(to: &bytes)
        state.counters.addSent(bytes.count)
        try urgent.send(bytes.span)
    }

    /// Ends a link whose destination is silent while the thread at the return path cannot see it: it
    /// waits in a write that nobody takes.
    mutating func judgeLink(at now: UInt64) {
        let counters = state.counters
        let heard = counters.heardAtNanoseconds.load(ordering: .relaxed)
        guard link.isWatched.load(ordering: .relaxed), now > heard,
            now - heard >= state.beatNanoseconds
        else { return }
        let isTakenUp = phase.status == .postcopyRecover || phase.status == .postcopyPaused
        let limit =
            isTakenUp ? state.options.handshakeNanosecondsMax : state.options.linkLimitInForce
        // In this order: what is read in between has been heard.
        let unread = link.main.unreadBytes
        let isSilent = comeback.watch.isSilent(
            link: link.number, unreadBytes: unread,
            heardAtNanoseconds: counters.heardAtNanoseconds.load(ordering: .relaxed), at: now,
            limitNanoseconds: limit)
        guard isSilent else { return }
        apply(.linkLost, problem: "the destination was silent for \(limit / 1_000_000) ms")
    }
}
