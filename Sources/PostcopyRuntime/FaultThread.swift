internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The destination's urgent traffic: faults in, requests out, urgent pages placed, blocktime counted.
///
/// It alone reads the userfaultfd, writes the return path and reads the urgent channel, so that a
/// fault meets no lock and no second thread on its way. It outlives links: while there is none it
/// notes who waits, and asks for all of that on the next one.
struct FaultThread: ~Copyable {
    let state: DestinationState
    /// What the source may be told now.
    private(set) var talk: Talk
    var channels: UrgentChannels
    var placer: PagePlacer
    private var encoder: ReturnPathEncoder
    private var waits: WaitAccount
    private var recorder: PlacementRecorder
    private var readsFaults = true
    /// Where threads wait in pages that are here, which the kernel could not wake for want of memory.
    private var unsettled: [HostAddress] = []
    /// Return-path bytes that go out in one write.
    private var outgoing: [UInt8] = []
    private var beat: Heartbeat
    private var mail = Mail()
    private var clients = ServedClients()

    /// How this thread stands to the link.
    enum Talk {
        /// There is none.
        case alone
        /// Bitmaps and answers go out, and no request before RESUME_ACK.
        case recovering(DestinationLink)
        case open(DestinationLink)
        /// It broke, as far as this thread knows: last words are tried, and nothing is read of it.
        case broken(DestinationLink)

        var link: DestinationLink? {
            switch self {
            case .alone: nil
            case .recovering(let link), .open(let link), .broken(let link): link
            }
        }
    }

    /// Why this thread cannot go on with the link.
    struct Trouble: Error {
        let event: DestinationEvent
        let problem: String
        /// Said by a connection that brought no page yet, and yet the source's.
        var refusesSource = false
        /// The faults themselves cannot be read any more.
        var losesFaults = false
    }

    /// What other threads left for this one, in arrays that are used again.
    private struct Mail {
        var outgoing: [Outgoing] = []
        var notices: [PlacedRange] = []
        var passageRequests: [HostPage] = []
    }

    init(state: DestinationState, link: DestinationLink) {
        self.state = state
        talk = .open(link)
        channels = UrgentChannels(state: state)
        placer = PagePlacer(state: state, channel: .urgent)
        encoder = ReturnPathEncoder(blocks: state.geometries)
        waits = WaitAccount(
            blocks: state.blocks, options: state.options, counters: state.waits,
            halts: state.guest.halts)
        recorder = PlacementRecorder(state: state, isUrgent: true)
        beat = Heartbeat(
            limitNanoseconds: state.options.linkLimitInForce,
            intervalNanoseconds: state.options.beatNanoseconds)
    }

    /// Serves until it is told to end, and answers how long it saw threads wait.
    mutating func run() -> WaitAccount.Outcome {
        preferShortSlices()
        _ = clients.take(state.clients)
        var watched = Watched(state: state, channels, clients, readsFaults: readsFaults)
        var isEnding = false
        while !isEnding {
            let isTimed = keepsAlive || !unsettled.isEmpty
            _ = watched.poller.wait(timeoutNanoseconds: isTimed ? beat.intervalNanoseconds : .max)
            settleAgain()
            let isRaised = watched.poller.isReady(watched.flag)
            if isRaised { state.faultFlag.clear() }
            // Asked once the flag is lowered, or it would be lowered for this; and before the outbox is
            // emptied: what was posted before is still sent.
            isEnding = state.isEnding.load(ordering: .acquiring)
            do throws(Trouble) { try serve(watched, hasMail: isRaised || isEnding) } catch {
                giveUp(error)
            }
            let hasNewClients = isRaised && clients.take(state.clients)
            if hasNewClients || !watched.areFor(channels, readsFaults: readsFaults) {
                watched = Watched(state: state, channels, clients, readsFaults: readsFaults)
            }
            waits.publish()
        }
        state.lastWordSent.raise()
        recorder.leave(to: state.placements)
        // Where nobody waited they are in the account all the same.
        noteVCPUs()
        return waits.finish()
    }

    private mutating func serve(_ watched: Watched, hasMail: Bool) throws(Trouble) {
        if hasMail {
            noteVCPUs()
            changeLink()
            takeMail()
            try sendOutgoing()
            channels.take(talk)
        }
        if let place = watched.faults, watched.poller.isReady(place) { try takeFaults() }
        for (place, client) in watched.clients where watched.poller.isReady(place) {
            try takeFaults(of: client, isReadable: watched.poller.isReadable(place))
        }
        for (place, channel) in watched.channels where watched.poller.isReady(place) {
            try takeUrgentPages(from: channel)
        }
        try keepAlive()
    }

    /// Blocktime goes on by the stream's notices, and the source may still be due its last word.
    private mutating func giveUp(_ trouble: Trouble) {
        // The source may be writing an urgent page that nobody will read.
        channels.drop()
        if trouble.losesFaults { readsFaults = false }
        if let link = talk.link { talk = .broken(link) }
        state.report(trouble.event, problem: trouble.problem)
    }

    /// Lets go of a link that is down, and takes the next one up.
    private mutating func changeLink() {
        if let link = talk.link, link.isDown.load(ordering: .acquiring) { leave(link) }
        guard case .alone = talk, let link = state.takeLink() else { return }
        // It may have gone before this thread woke for it, and nobody says so twice.
        guard !link.isDown.load(ordering: .acquiring) else { return leave(link) }
        talk = .recovering(link)
        channels = UrgentChannels(state: state)
        // What came of a huge page on the old link comes again.
        placer = PagePlacer(state: state, channel: .urgent, isResumed: true)
        encoder = ReturnPathEncoder(
            blocks: state.geometries,
            offered: state.isSourceOurs ? .ours(forVersion: Extensions.version) : nil)
        encoder.resize(state.list.listed)
        beat.note(writtenAt: Monotonic.now())
    }

    /// What was to be said on a link is nothing for the next one.
    private mutating func leave(_ link: DestinationLink) {
        channels.drop()
        outgoing.removeAll(keepingCapacity: true)
        waits.forgetUnwritten()
        state.outbox.clear()
        talk = .alone
        link.isLeft.raise()
    }

    /// Reads what faults there are and asks for their pages in one write.
    private mutating func takeFaults() throws(Trouble) {
        noteVCPUs()
        let state = state
        // Behind the read, before which a fault of them may not have been.
        var now: UInt64 = 0
        var trouble: PlacingError?
        do {
            _ = try state.uffd.readEvents { event in
                if now == 0 { now = Monotonic.now() }
                guard let page = state.hostPage(at: event.address) else { return }
                let slot = waits.begin(event, page, readAt: now)
                do throws(PlacingError) { try answer(page, at: event.address, slot) } catch {
                    trouble = error
                    setAside(event.address)
                }
            }
        } catch {
            throw Trouble(
                event: .linkLost, problem: "reading page faults: \(error)", losesFaults: true)
        }
        if let trouble { throw Trouble(event: state.linkLoss, problem: trouble.description) }
        try sendOutgoing()
    }

    /// Answers a fault, of this process or of a client, at the place of this process's memory.
    /// - Parameter slot: of the wait that has begun, where it is tracked.
    mutating func answer(
        _ page: HostPage, at address: HostAddress, _ slot: Int? = nil
    ) throws(PlacingError) {
        state.counters.faults.add(1, ordering: .relaxed)
        state.firstFaults?.note(page)
        switch state.demand.want(page) {
        case .request:
            if request(page) { waits.awaitWrite(slot) }
        case .wait: waits.noteJoined(slot)
        case .present:
            try placer.settleFault(in: page, at: address)
            close(page, at: Monotonic.now(), .early)
        }
    }

    mutating func setAside(_ address: HostAddress) { unsettled.append(address) }

    private mutating func settleAgain() {
        for address in unsettled {
            guard let page = state.hostPage(at: address),
                (try? placer.settleFault(in: page, at: address)) != nil
            else { return }
            unsettled.removeFirst()
            close(page, at: Monotonic.now(), .early)
        }
    }

    /// Asks for a page; without a link that is open it is asked for on the next one.
    /// - Returns: whether it is asked for with the next write.
    @discardableResult
    private mutating func request(_ page: HostPage) -> Bool {
        guard case .open = talk else { return false }
        let geometry = state.geometries[page.block.rawValue]
        encoder.append(
            .requestPages(
                block: page.block, start: geometry.offset(of: page.page),
                lengthBytes: geometry.hostPage.bytes),
            to: &outgoing)
        state.counters.requests.add(1, ordering: .relaxed)
        return true
    }

    /// RESUME: acknowledges, and asks again for all that is waited for before anything new.
    ///
    /// Source: `loadvm_postcopy_handle_resume` (`migration/savevm.c`).
    private mutating func resume() {
        guard case .recovering(let link) = talk else { return }
        talk = .open(link)
        encoder.forgetBlock()
        encoder.append(.resumeAcknowledged, to: &outgoing)
        waits.awaitWriteOfAll()
        var next = HostPage.first
        while let page = state.demand.nextOutstanding(from: next) {
            request(page)
            next = page.next
        }
        state.held?(.resuming)
    }

    private mutating func takeMail() {
        // What was posted for a link that is on its way here waits for it.
        if talk.link != nil { state.outbox.drain(into: &mail.outgoing) }
        for item in mail.outgoing {
            switch item {
            case .message(let message): encoder.append(message, to: &outgoing)
            case .receivedBitmap(let block):
                encoder.appendReceivedBitmap(
                    of: block, state.demand.received[block.rawValue], to: &outgoing)
            case .resume: resume()
            }
        }
        mail.outgoing.removeAll(keepingCapacity: true)
        state.notices.drain(into: &mail.notices)
        for notice in mail.notices { close(notice, .background) }
        mail.notices.removeAll(keepingCapacity: true)
        if state.hasLostNotices.exchange(false, ordering: .acquiring) { closeArrived() }
        takePassageRequests()
    }

    /// Asks for what the guest's next host waits for.
    private mutating func takePassageRequests() {
        guard let passage = state.passage else { return }
        passage.requests.drain(into: &mail.passageRequests)
        for page in mail.passageRequests where state.demand.want(page) == .request {
            request(page)
        }
        mail.passageRequests.removeAll(keepingCapacity: true)
    }

    mutating func sendOutgoing() throws(Trouble) {
        guard let link = talk.link, !outgoing.isEmpty else { return }
        defer { outgoing.removeAll(keepingCapacity: true) }
        let now = Monotonic.now()
        beat.note(writtenAt: now)
        waits.noteWrite(at: now)
        var sent = 0
        while sent < outgoing.count {
            do { sent += try link.main.socket.sendWithoutWaiting(outgoing.span, from: sent) } catch
            {
                // Of a link that is broken already this is no news.
                if case .broken = talk { return }
                throw Trouble(
                    event: state.linkLoss, problem: "the link to the source failed: \(error)")
            }
            if sent < outgoing.count { try waitForRoom(in: link) }
        }
    }

    /// The source reads no request while it writes urgent pages: take those, or both sides wait for
    /// each other.
    private mutating func waitForRoom(in link: DestinationLink) throws(Trouble) {
        var poller = Poller(capacity: 1 + UrgentChannels.countMax)
        poller.watchRoom(in: link.main.socket)
        let places = channels.all.map { ($0.isWatched(by: &poller), $0) }
        guard poller.wait(timeoutNanoseconds: state.options.silenceNanosecondsMax) > 0 else {
            throw Trouble(event: state.linkLoss, problem: "the source reads nothing")
        }
        for (place, channel) in places where poller.isReady(place) {
            try takeUrgentPages(from: channel)
        }
    }

    /// Whether heartbeats go to a source that knows them, once the guest may move at any moment.
    private var keepsAlive: Bool {
        switch talk {
        case .alone, .broken: false
        case .recovering: state.isSourceOurs
        case .open: state.isSourceOurs && state.recovery.isSwitchNear.load(ordering: .relaxed)
        }
    }

    /// Shows that this side lives where it has nothing else to say, and asks the same of the urgent
    /// channel. Asked when nothing was left to read: a thread that was stopped itself blames nobody.
    private mutating func keepAlive() throws(Trouble) {
        guard keepsAlive else { return }
        let now = Monotonic.now()
        if beat.isDue(at: now) {
            encoder.append(.heartbeat, to: &outgoing)
            try sendOutgoing()
        }
        guard let channel = channels.chosen, channels.contains(channel),
            now > channel.heardAtNanoseconds,
            now - channel.heardAtNanoseconds > beat.limitNanoseconds
        else { return }
        // It may have been heard since it was looked at.
        try takeUrgentPages(from: channel)
        guard channels.contains(channel), now > channel.heardAtNanoseconds else { return }
        throw Trouble(
            event: state.linkLoss,
            problem: "the urgent channel brought nothing for "
                + "\(beat.limitNanoseconds / 1_000_000) ms")
    }

    /// Ends the waits for what was placed.
    mutating func close(_ placed: PlacedRange, _ arrival: WaitAccount.Arrival) {
        if case .urgent = arrival { recorder.note(placed) }
        let requested = state.demand.requested[placed.block.rawValue]
        while let page = requested.first(in: placed.pages) {
            close(HostPage(block: placed.block, page: page), at: placed.atNanoseconds, arrival)
        }
    }

    /// Ends the waits for all that is here.
    private mutating func closeArrived() {
        var next = HostPage.first
        while let page = state.demand.nextArrived(from: next) {
            close(page, at: Monotonic.now(), .background)
            next = page.next
        }
    }

    private mutating func close(
        _ page: HostPage, at instant: UInt64, _ arrival: WaitAccount.Arrival
    ) {
        state.demand.close(page)
        waits.close(page, at: instant, arrival)
        // The kernel has woken whoever waits in this process.
        if !clients.all.isEmpty { clients.wake(page, state.geometries[page.block.rawValue]) }
    }

    /// The guest has its vCPU threads once its devices are loaded, which is before they run. It is not
    /// asked here: a vCPU may wait for a page with the lock that its answer needs.
    private mutating func noteVCPUs() {
        guard !waits.knowsVCPUs, let vcpus = state.vcpuThreads.withLock({ $0 }) else { return }
        waits.noteVCPUs(vcpus.threads, at: vcpus.atNanoseconds)
        state.vcpusNoted.raise()
    }
}

extension HostPage {
    fileprivate static let first = HostPage(
        block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))

    fileprivate var next: HostPage {
        HostPage(block: block, page: HostPageIndex(rawValue: page.rawValue + 1))
    }
}
