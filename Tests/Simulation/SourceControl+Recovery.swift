import MigrationCore
import PageModel
import StreamWire

// What the control thread does about a link that broke.
extension SourceControl {
    func pause() {
        world.tally.breaks += 1
        outgoing.removeAll()
        guard let link = state.link else { return }
        link.stopsSending = true
        link.main.endSending()
        state.sender.goOn()
        state.returnPath.goOn()
        job = .join(until: world.now + 2 * Time.linkLimit)
        goOn()
    }

    /// Waits for both threads of the old link, then applies what they said last.
    func join(_ until: Int) {
        guard let link = state.link else { return }
        if world.now >= until { link.isShutDown = true }
        guard link.senderHasEnded, link.returnHasEnded else {
            if link.isShutDown {
                state.sender.goOn()
                state.returnPath.goOn()
            }
            return goOn(at: max(until, world.now + Time.millisecond))
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

    func knock() {
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
            job = .awaitAnswer(until: world.now + Time.handshakeLimit)
            goOn()
        }
    }

    func attemptFailed(_ why: String) {
        world.note("source", "attempt \(attempt) failed: \(why)")
        closeLink()
        // What the threads of the attempt said is about nothing any more.
        while state.nextMail() != nil {}
        schedule?.failed(at: UInt64(world.now))
        job = .knock
        goOn()
    }

    func takeAnswer(_ answer: RecoveryAnswer) {
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

    func askBitmaps() {
        state.link?.wroteMainAt = world.now
        for block in state.blocks.indices {
            send(.receivedBitmap(block: BlockIndex(rawValue: block)))
        }
        world.reached(.bitmapAsked)
    }

    func sendResume() {
        if world.scenario.hasUrgent { connectUrgent() }
        job = .resume
    }

    func resume(_ link: SourceLink) {
        guard !waitsForUrgent else { return goOn(at: world.now + Time.beat) }
        link.mayServe = true
        send(.postcopyResume)
        state.returnPath.greet(link)
        world.reached(.resumeSent)
        job = .idle
        goOn()
    }
}
