import Synchronization
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
    private var outgoing = ByteQueue()
    private var schedule: RecoverySchedule?
    var attempt: UInt32 = 0
    private var waitsForUrgent = false
    private var isReady = false
    private var discardEncoder = DiscardEncoder()

    init(_ world: World) { super.init(world, "source", .source) }

    private var state: SourceSide { world.parts.source }
    private var guest: GuestModel { world.parts.guest }

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

    private func take(_ mail: SourceSide.Mail) {
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

    private func closeLink() {
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
            guard isReady else { return goOn(at: world.now + Duration.beat) }
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

    /// Shows a destination that judges the main channel that a source lives which has nothing to say.
    private func watch(_ link: SourceLink) {
        switch state.phase {
        case .postcopyDevice(allPagesSent: true), .recovering:
            let due = link.wroteMainAt + Duration.beat
            guard world.now >= due else { return goOn(at: due) }
            send(.ping(PingValue.returnPathOpened.rawValue))
            goOn()
        default: break
        }
    }

    func send(_ command: Command) {
        outgoing.edit { StreamEncoder.appendCommand(command, blocks: state.blocks, to: &$0) }
    }

    func write(_ edit: (inout [UInt8]) -> Void) { outgoing.edit(edit) }
}

// MARK: - The first link

extension SourceControl {
    private func connectFirst() {
        world.parts.destination.door.connect(isSource: true, worker: self) { [self] socket in
            guard let socket else { return apply(.linkLost, "nobody answers") }
            let link = SourceLink(socket, attempt: 0, now: world.now)
            state.link = link
            job = .idle
            state.returnPath.begin(link, offered: nil)
            world.reached(.connected)
            apply(.connected, "")
            goOn()
        }
        job = .idle
    }

    private func sendSetup() {
        let summary = state.blocks.reduce(UInt64(0x1000)) { $0 | $1.hostPage.bytes }
        write { bytes in
            StreamEncoder.appendHead(machineType: "small-1", to: &bytes)
            for command: Command in [
                .openReturnPath, .ping(PingValue.returnPathOpened.rawValue),
                .ping(Extensions.question),
                .postcopyAdvise(pageSizeSummary: summary, targetPageBytes: 4096),
            ] {
                StreamEncoder.appendCommand(command, blocks: [], to: &bytes)
            }
            StreamEncoder.appendSectionStart(id: SourceSide.section, to: &bytes)
            StreamEncoder.appendBlockList(state.listed, to: &bytes)
            StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
        }
    }

    private func connectUrgent() {
        waitsForUrgent = true
        world.parts.destination.door.connect(isSource: true, worker: self) { [self, link = state.link] socket in
            waitsForUrgent = false
            guard let link, state.link === link, !link.isShutDown else { return socket?.close() ?? () }
            guard let socket else { return apply(.linkLost, "no urgent channel") }
            socket.listen(reader: nil, writer: state.returnPath)
            link.urgent = socket
            goOn()
        }
    }

    /// One step of the precopy: a look at what was written, or a run of pages.
    private func precopy(_ steps: Int) {
        guard steps > 0 else {
            guard !waitsForUrgent else { return goOn(at: world.now + Duration.millisecond) }
            job = .idle
            apply(.startPostcopy, "")
            return goOn()
        }
        job = .precopy(steps: steps - 1)
        if world.draw(4) == 0 {
            syncLog()
        } else {
            let block = world.draw(state.blocks.count)
            let start = world.draw(state.blocks[block].targetPageCount)
            if let run = state.dirty[block].takeRun(from: start, countMax: 1 + world.draw(12)) {
                state.sent[block].insert(run)
                job = .encode(block: block, pages: run, steps: steps - 1)
            }
        }
        goOn()
    }

    private func syncLog() {
        for block in state.blocks.indices {
            for page in 0..<state.blocks[block].targetPageCount where guest.takeLog(block, page) {
                state.dirty[block].insert(page..<page + 1)
            }
        }
    }

    private func sendDiscards() {
        syncLog()
        var count = 0
        for (dirty, sent) in zip(state.dirty, state.sent) {
            dirty.canonicalize(sent: sent)
            count += dirty.dirtyCount
        }
        state.owed.remaining.store(count, ordering: .relaxed)
        let sink = { (bytes: Span<UInt8>) in
            var copy: [UInt8] = []
            for index in bytes.indices { copy.append(bytes[index]) }
            self.write { $0 += copy }
        }
        for dirty in state.dirty { discardEncoder.encode(dirty, to: sink) }
        discardEncoder.finish(to: sink)
        job = .discards
    }

    private func sendPackage() {
        state.link?.mayServe = true
        // It waits as long as is right for a guest that stays.
        state.returnPath.goOn()
        var devices: [UInt8] = []
        DeviceSection(id: 9, name: "cpu", instance: 0, version: 1, state: [1, 2, 3])
            .encode(to: &devices)
        write { StreamEncoder.appendPackage(DevicePackage.encode(devices: devices), to: &$0) }
        send(.ping(PingValue.afterPackage.rawValue))
        world.reached(.packageBegun)
        job = .endPackage
    }

    private func sendEnd() {
        world.reached(.endSent)
        write { bytes in
            StreamEncoder.appendSectionResumed(id: SourceSide.section, last: true, to: &bytes)
            StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
            StreamEncoder.appendEndOfStream(to: &bytes)
        }
        state.link?.endsUrgent = true
        state.returnPath.goOn()
    }
}

// MARK: - A link that broke

extension SourceControl {
    private func pause() {
        world.tally.breaks += 1
        outgoing.removeAll()
        guard let link = state.link else { return }
        link.stopsSending = true
        link.main.endSending()
        state.sender.goOn()
        state.returnPath.goOn()
        job = .join(until: world.now + 2 * Duration.linkLimit)
        goOn()
    }

    /// Waits for both threads of the old link, then applies what they said last.
    private func join(_ until: Int) {
        guard let link = state.link else { return }
        if world.now >= until { link.isShutDown = true }
        guard link.senderHasEnded, link.returnHasEnded else {
            if link.isShutDown {
                state.sender.goOn()
                state.returnPath.goOn()
            }
            return goOn(at: max(until, world.now + Duration.millisecond))
        }
        job = .idle
        while let mail = state.nextMail() { take(mail) }
        guard case .paused = state.phase else { return }
        closeLink()
        state.clearQueue()
        if schedule != nil {
            schedule?.failed(at: UInt64(world.now))
        } else {
            schedule = RecoverySchedule(
                addressCount: world.scenario.addressCount, from: UInt64(world.now),
                lastingNanoseconds: nil)
        }
        job = .knock
        goOn()
    }

    private func knock() {
        guard var schedule, let due = schedule.nextAttemptNanoseconds else {
            return world.fail("the source knocks again", "its schedule has ended")
        }
        guard world.now >= Int(due) else { return goOn(at: Int(due)) }
        _ = schedule.begin()
        self.schedule = schedule
        attempt += 1
        job = .idle
        let number = attempt
        world.reached(.knocked)
        world.parts.destination.door.connect(isSource: true, worker: self) { [self] socket in
            guard let socket, let token = state.token else { return attemptFailed("refused") }
            let link = SourceLink(socket, attempt: number, now: world.now)
            state.link = link
            state.mainEncoder.forgetBlock()
            state.urgentEncoder.forgetBlock()
            state.returnPath.begin(link, offered: [.refusalReason, .recovery])
            let hello = ChannelHello(token: token, channel: .main, attempt: number)
            write { hello.append(to: &$0) }
            job = .awaitAnswer(until: world.now + Duration.linkLimit)
            goOn()
        }
    }

    private func attemptFailed(_ why: String) {
        world.note("source", "attempt \(attempt) failed: \(why)")
        closeLink()
        // What the threads of the attempt said is about nothing any more.
        while state.nextMail() != nil {}
        schedule?.failed(at: UInt64(world.now))
        job = .knock
        goOn()
    }

    private func takeAnswer(_ answer: RecoveryAnswer) {
        guard case .awaitAnswer = job else { return }
        world.note("source", "the answer is \(answer)")
        switch answer {
        case .waiting, .running:
            job = .idle
            world.reached(.welcomed)
            if answer == .running { apply(.committed, "") }
            apply(.reconnected, "")
        case .completed: apply(.shut(error: 0), "")
        case .neverRan: apply(.shut(error: 1), "")
        case .stranger, .busy: attemptFailed("\(answer)")
        }
    }

    private func askBitmaps() {
        state.link?.wroteMainAt = world.now
        for block in state.blocks.indices {
            send(.receivedBitmap(block: BlockIndex(rawValue: block)))
        }
        world.reached(.bitmapAsked)
    }

    private func sendResume() {
        if world.scenario.hasUrgent { connectUrgent() }
        job = .resume
    }

    private func resume(_ link: SourceLink) {
        guard !waitsForUrgent else { return goOn(at: world.now + Duration.beat) }
        link.mayServe = true
        send(.postcopyResume)
        state.returnPath.greet(link)
        world.reached(.resumeSent)
        job = .idle
        goOn()
    }
}
