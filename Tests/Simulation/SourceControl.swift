import MigrationCore
import PageModel
import StreamWire

/// The source's control thread: owns the phase, moves the guest, and knocks again when the link is gone.
final class SourceControl: Worker {
    /// What comes once everything that was written has been taken.
    enum Job {
        case idle, begin
        case precopy(steps: Int), encode(block: Int, pages: Range<Int>, steps: Int)
        case awaitReady, stop
        case discards, announcePackage, endPackage
        case join(until: Int)
        case knock, awaitAnswer(until: Int)
        case resume
        case over
    }

    var job = Job.begin
    var outgoing = ByteQueue()
    var schedule: RecoverySchedule?
    var attempt: UInt32 = 0
    var waitsForUrgent = false
    var isReady = false
    var discardEncoder = DiscardEncoder()
    private var unread = UnreadWatch()

    init(_ world: World) { super.init(world, "source", .source) }

    var state: SourceSide { world.parts.source }
    var guest: GuestModel { world.parts.guest }

    var isDone: Bool { if case .over = job { true } else { false } }

    override func step() {
        if let link = state.link, !outgoing.isEmpty {
            guard flush(link) else { return }
        }
        if case .join(let until) = job { return join(until) }
        if let mail = state.nextMail() {
            take(mail)
            return goOn()
        }
        work()
    }

    private func flush(_ link: SourceLink) -> Bool {
        let count = link.isShutDown ? nil : link.main.write(outgoing.prefix(outgoing.count))
        guard let count else {
            outgoing.removeAll()
            apply(.linkLost, "the control thread's write failed")
            goOn()
            return false
        }
        outgoing.consume(count)
        if count > 0 { link.wroteMainAt = world.now }
        if outgoing.isEmpty { return true }
        if link.returnHasEnded {
            // The thread that judges the link has given it up.
            link.isShutDown = true
            goOn()
        } else {
            link.main.listen(reader: state.returnPath, writer: self)
        }
        return false
    }

    func take(_ mail: SourceSide.Mail) {
        switch mail {
        case .event(let event): apply(event, "")
        case .ready: isReady = true
        case .answer(let answer): takeAnswer(answer)
        }
    }

    func apply(_ event: SourceEvent, _ why: String) {
        let (next, action) = state.phase.after(event)
        if next != state.phase { world.note("source", "\(event) \(why): \(next)") }
        state.phase = next
        perform(action)
    }

    private func perform(_ action: SourceAction) {
        switch action {
        case .none, .refuse, .refuseCancel, .awaitCommit: break
        case .sendSetup: sendSetup()
        case .awaitStart:
            if world.scenario.hasUrgent { connectUrgent() }
            job = .precopy(steps: world.scenario.precopySteps)
        case .stopGuest: job = .awaitReady
        case .sendDiscards, .sendRest: sendDiscards()
        case .sendPackage: sendPackage()
        case .streamPages:
            if schedule != nil {
                schedule = nil
                world.tally.recoveries += 1
                world.reached(.resumed)
            }
            if let link = state.link { state.sender.begin(link) }
        case .sendEnd: sendEnd()
        case .finish, .keepGuestRunning: end()
        case .resumeGuest:
            if !guest.runsAtSource { guest.resumeAtSource() }
            end()
        case .pause: pause()
        case .askBitmaps: askBitmaps()
        case .sendResume: sendResume()
        }
    }

    private func end() {
        closeLink()
        job = .over
        goOn()
    }

    func closeLink() {
        outgoing.removeAll()
        guard let link = state.link else { return }
        link.isShutDown = true
        link.senderHasEnded = true
        link.returnHasEnded = true
        link.main.close()
        link.urgent?.close()
        state.link = nil
    }

    private func work() {
        guard let link = state.link else {
            if case .begin = job { return connectFirst() }
            if case .knock = job { return knock() }
            return
        }
        switch job {
        case .begin, .knock, .join, .over: break
        case .idle: watch(link)
        case .awaitAnswer(let until):
            guard world.now >= until else { return goOn(at: until) }
            attemptFailed("no answer")
        case .precopy(let steps): precopy(steps)
        case .encode(let block, let pages, let steps):
            outgoing.edit { bytes in
                StreamEncoder.appendSectionResumed(id: SourceSide.section, last: false, to: &bytes)
                state.append(
                    pages, of: BlockIndex(rawValue: block), &state.mainEncoder, to: &bytes)
                StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
            }
            job = .precopy(steps: steps)
            goOn()
        case .awaitReady:
            send(.ping(PingValue.beforePackage.rawValue))
            job = .stop
            goOn()
        case .stop:
            guard isReady else { return goOn(at: world.now + Time.beat) }
            guest.stopAtSource()
            job = .idle
            apply(.guestStopped, "")
            goOn()
        case .discards:
            job = .announcePackage
            goOn()
        case .announcePackage:
            job = .idle
            apply(.packageStarted, "")
            goOn()
        case .endPackage:
            job = .idle
            world.reached(.packageSent)
            apply(.packageSent, "")
            goOn()
        case .resume: resume(link)
        }
    }

    /// Judges a destination for a return path that waits in a write, and shows one that judges the main
    /// channel that a source lives which has nothing to say.
    private func watch(_ link: SourceLink) {
        var due = world.now + Time.beat
        switch state.phase {
        case .postcopyDevice(allPagesSent: true), .recovering:
            let ping = link.wroteMainAt + Time.beat
            guard world.now < ping else {
                send(.ping(PingValue.returnPathOpened.rawValue))
                return goOn()
            }
            due = ping
        case .postcopyDevice, .postcopyActive, .completing: break
        default: return
        }
        guard isSilent(link) else { return goOn(at: due) }
        apply(.linkLost, "the destination is silent, and nobody listens")
        goOn()
    }

    private func isSilent(_ link: SourceLink) -> Bool {
        let heard = state.returnPath.heardAt
        guard !link.returnHasEnded, world.now - heard >= Time.beat else { return false }
        return unread.isSilent(
            link: link.attempt, unreadBytes: link.main.unreadBytes,
            heardAtNanoseconds: UInt64(heard), at: UInt64(world.now),
            limitNanoseconds: UInt64(Time.linkLimit))
    }

    func send(_ command: Command) {
        outgoing.edit { StreamEncoder.appendCommand(command, blocks: state.blocks, to: &$0) }
    }

    func write(_ edit: (inout [UInt8]) -> Void) { outgoing.edit(edit) }
}
