internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The source's urgent traffic: reads the return path and answers page requests itself, on the urgent
/// channel, since a hop to another thread can cost more than the page.
struct ReturnPathThread: ~Copyable {
    let state: SourceState
    let link: SourceLink
    private var decoder: ReturnPathDecoder
    private var writer: PageWriter
    private var urgent: SharedSocket?
    private var answered: Set<PingValue> = []
    private var knowsLengths: Bool
    private var arrivals: [HostPage] = []
    private var recorder: ServiceRecorder
    /// Requests that were answered since bytes were last read.
    private var answeredCount = 0
    /// When pages were asked for that come from the host which the guest left.
    private var relayedSince: [HostPage: UInt64] = [:]
    var recovery: RecoveryStage
    var pulse: LinkPulse

    /// Requests of 32 bytes: two thousand threads may fault at once before the peer waits.
    private static let bufferBytes = 64 << 10

    struct Trouble: Error {
        let event: SourceEvent
        let problem: String
    }

    init(state: SourceState, link: SourceLink) {
        self.state = state
        self.link = link
        let peer = state.recovery.peer
        decoder = ReturnPathDecoder(blocks: state.list.listed, offered: peer?.extensions)
        writer = PageWriter(state: state)
        // The lengths do not change any more once the guest has moved.
        knowsLengths = link.isResumption
        recovery = RecoveryStage(peer: peer)
        recorder = ServiceRecorder(isOn: state.options.recordsFaults)
        pulse = LinkPulse(state: state)
        guard link.isResumption else { return }
        decoder.expectsBitmaps()
        recovery.begin(on: state)
        pulse.limit(to: state.options.handshakeNanosecondsMax)
        if peer != nil { watch(from: Monotonic.now()) }
    }

    /// Reads until the destination closes, and reports what it says.
    mutating func run() {
        preferShortSlices()
        do throws(Trouble) { try serve() } catch {
            state.report(error.event, problem: error.problem, of: link)
            // Nothing that is said there will be heard, and the control thread may wait in a write.
            if recovery.peer != nil { link.end() }
        }
        recorder.leave(to: state.services)
        link.welcome.withLock { $0.isOver = true }
        state.controlFlag.raise()
        link.returnPathEnded.raise()
    }

    private mutating func serve() throws(Trouble) {
        var buffer = ReceiveBuffer(capacityBytes: Self.bufferBytes)
        var poller = Poller(capacity: 2)
        let flag = poller.watch(state.returnPathFlag)
        let main = poller.watch(link.main)
        while true {
            _ = poller.wait(timeoutNanoseconds: pulse.waitNanoseconds)
            if poller.isReady(flag) {
                state.returnPathFlag.clear()
                try takeOrders()
            }
            guard poller.isReady(main) else {
                if pulse.isLate(at: Monotonic.now()) {
                    // What came while this thread did not run shows that the destination lives.
                    _ = poller.wait(timeoutNanoseconds: 0)
                    if !poller.isReady(main) { throw silence() }
                }
                try beat(at: Monotonic.now())
                continue
            }
            try receive(into: &buffer)
            let consumed = try buffer.withBytes { bytes throws(Trouble) in try decode(bytes) }
            buffer.consume(consumed)
            try flush()
            try beat(at: pulse.heardAt)
        }
    }

    private mutating func receive(into buffer: inout ReceiveBuffer) throws(Trouble) {
        let received: Int?
        do { received = try buffer.fill(from: link.main, wait: false) } catch {
            throw Trouble(
                event: .linkLost, problem: "the link to the destination failed: \(error)")
        }
        guard let received else { return }
        guard received > 0 else {
            let unfinished = decoder.endOfInput(unread: buffer.count).map { ": \($0)" } ?? ""
            throw Trouble(
                event: .linkLost, problem: "the link to the destination ended\(unfinished)")
        }
        pulse.heardAt = Monotonic.now()
        answeredCount = 0
        state.counters.heardAtNanoseconds.store(pulse.heardAt, ordering: .relaxed)
    }

    private mutating func watch(from now: UInt64) {
        pulse.watch(from: now)
        link.isWatched.store(true, ordering: .relaxed)
    }

    private mutating func decode(_ bytes: Span<UInt8>) throws(Trouble) -> Int {
        var start = 0
        while true {
            noteLengths()
            if link.asksForExtensions.load(ordering: .acquiring) { decoder.noteAsked() }
            let step: Decoded<ReturnPathMessage>
            do { step = try decoder.next(in: bytes, from: start) } catch {
                throw Trouble(
                    event: .peerMisbehaved, problem: "the destination broke the protocol: \(error)")
            }
            guard case .item(let message, let consumed) = step else { return start }
            start += consumed
            try take(message, in: bytes)
        }
    }

    /// Requests are judged by the lengths that were frozen before the first of them may come.
    private mutating func noteLengths() {
        guard !knowsLengths, state.mayServe.load(ordering: .acquiring) else { return }
        decoder.resize(state.list.listed)
        knowsLengths = true
    }

    private mutating func take(
        _ message: ReturnPathMessage, in bytes: Span<UInt8>
    ) throws(Trouble) {
        switch message {
        case .pong(let value):
            guard !recovery.awaitsAnswer else { throw misplaced("PONG") }
            takePong(value)
        case .shut(let error): try takeShut(error)
        case .extensions(let offer):
            recovery.learn(offer)
            if let peer = recovery.peer { state.recovery.learn(peer) }
            try greet()
        case .refusalReason(let text): link.welcome.withLock { $0.reason = text }
        case .requestPages(let block, let start, let length):
            guard state.mayServe.load(ordering: .acquiring) else {
                if recovery.mayPassOverRequests { return }
                throw Trouble(
                    event: .peerMisbehaved,
                    problem: "the destination asked for pages before it had the guest")
            }
            state.counters.requests.add(1, ordering: .relaxed)
            try serve(block, start, lengthBytes: length)
        case .heartbeat: break
        case .recoveryAnswer(let answer): try takeAnswer(answer)
        case .receivedBitmap, .bitmapBytes, .bitmapEnd: try takeBitmap(message, in: bytes)
        case .resumeAcknowledged: try takeAcknowledgement()
        }
    }

    /// On a new link it counts only from a destination that is known to be the one.
    private func takeShut(_ error: UInt32) throws(Trouble) {
        guard recovery.knowsDestination else { throw misplaced("SHUT") }
        let reason = link.welcome.withLock { $0.reason }
        let why =
            reason.map { "the destination refused: \(PeerText.plain($0))" }
            ?? "the destination gave up with error \(error)"
        state.report(.shut(error: error), problem: error == 0 ? nil : why, of: link)
    }

    /// Each answer is news once: a flood of PONGs must not crowd out what matters.
    private mutating func takePong(_ value: UInt32) {
        guard let known = PingValue(rawValue: value), answered.insert(known).inserted else {
            return
        }
        switch known {
        case .returnPathOpened: state.report(.returnPathAnswered, of: link)
        case .committedToRun: state.report(.committed, of: link)
        case .beforePackage:
            link.isDestinationReady.store(true, ordering: .releasing)
            state.controlFlag.raise()
        case .devicesLoaded, .afterPackage: break
        }
    }

    private mutating func serve(
        _ block: BlockIndex, _ start: RAMOffset, lengthBytes: UInt64
    ) throws(Trouble) {
        let geometry = state.geometries[block.rawValue]
        let first = geometry.hostPage(containing: start).rawValue
        let count = Int(lengthBytes >> UInt64(geometry.hostPage.shift))
        for index in first..<first + count {
            try answer(HostPage(block: block, page: HostPageIndex(rawValue: index)))
        }
    }

    /// Sends a page that somebody waits for, or sees to it that it is sent.
    private mutating func answer(_ page: HostPage) throws(Trouble) {
        defer { answeredCount += 1 }
        guard link.hasUrgent else {
            // The background sender passes over what it cannot claim.
            if state.passage?.want(page) != true { enqueue(page) }
            return
        }
        guard state.claim(page) || claimOnceHere(page) else {
            noteRelayed(page)
            return recorder.note(
                page, whyNotClaimed(page), receivedAt: pulse.heardAt, ahead: answeredCount)
        }
        if let since = relayedSince.removeValue(forKey: page) {
            recorder.take(page, .relayed, receivedAt: since)
        } else {
            recorder.take(page, receivedAt: pulse.heardAt, ahead: answeredCount)
        }
        state.scanHint.leave(page)
        let targetPages = state.geometries[page.block.rawValue].hostPage.targetPages
        state.counters.urgentPages.add(UInt64(targetPages), ordering: .relaxed)
        try writeUrgent(page)
    }

    /// Asks for a page that is not here yet. One that came meanwhile may be claimed now.
    private func claimOnceHere(_ page: HostPage) -> Bool {
        if let passage = state.passage {
            if passage.want(page) { return false }
            if state.claim(page) { return true }
        }
        // A huge page that is on its way must not be held back any more.
        state.wakeSender()
        return false
    }

    /// As many as there are threads that can wait; whatever else is asked for has no earlier instant.
    private mutating func noteRelayed(_ page: HostPage) {
        guard state.passage != nil, relayedSince[page] == nil,
            relayedSince.count < PageRequestQueue.capacityDefault
        else { return }
        relayedSince[page] = pulse.heardAt
    }

    private func whyNotClaimed(_ page: HostPage) -> ServiceFlags {
        guard state.inPieces.holds(page) else {
            return state.passage == nil ? .alreadySent : .relayed
        }
        // It is held back no more, but was.
        return state.pace.isLimited
            ? [.alreadySent, .hugePageInFlight, .rateLimited] : [.alreadySent, .hugePageInFlight]
    }

    private mutating func writeUrgent(_ page: HostPage) throws(Trouble) {
        adoptUrgent()
        do {
            switch urgent {
            case .some(let urgent): try writer.write(page, to: urgent.socket)
            case .none: preconditionFailure("an urgent channel that exists was delivered")
            }
        } catch { throw urgentTrouble(error) }
    }

    private mutating func flush() throws(Trouble) {
        guard let written = try writeOut(), written > 0 else { return }
        pulse.wroteAt = pulse.heardAt
        state.noteUrgent(bytes: written)
    }

    /// Writes all that was appended; answers how many bytes went out, or `nil` without a channel.
    private mutating func writeOut() throws(Trouble) -> Int? {
        do {
            switch urgent {
            case .some(let urgent): try writer.flush(to: urgent.socket)
            case .none: return nil
            }
        } catch { throw urgentTrouble(error) }
        recorder.noteWritten()
        return writer.takeWrittenBytes()
    }

    /// Shows a destination that judges the urgent channel by its silence that it is up.
    private mutating func beat(at now: UInt64) throws(Trouble) {
        guard pulse.isBeatDue(at: now) else { return }
        writer.append { RAMRecordEncoder.appendHeartbeat(to: &$0) }
        // Nobody waits for it: it does not count towards the limit.
        _ = try writeOut()
        pulse.wroteAt = now
    }

    private func urgentTrouble(_ error: Errno) -> Trouble {
        Trouble(event: .linkLost, problem: "the urgent channel failed: \(error)")
    }

    /// Sends awaited pages that have come; ends the urgent channel when the control thread says that
    /// nothing is owed.
    private mutating func takeOrders() throws(Trouble) {
        if let passage = state.passage, state.mayServe.load(ordering: .acquiring) {
            passage.arrivals.drain(into: &arrivals)
            for page in arrivals { try answer(page) }
            arrivals.removeAll(keepingCapacity: true)
            try flush()
        }
        // A destination shows from the last PING before the package on that it lives.
        if !pulse.isWatching, recovery.peer != nil, state.mayServe.load(ordering: .acquiring) {
            watch(from: Monotonic.now())
        }
        try greet()
        guard link.endsUrgent.exchange(false, ordering: .acquiring), link.hasUrgent else { return }
        adoptUrgent()
        writer.append { RAMRecordEncoder.appendEndOfSection(to: &$0) }
        pulse.endBeat()
        try flush()
    }

    /// An urgent channel says at once whose it is, and beats from then on: the destination turns the
    /// oldest of too many silent visitors away. Before the token is there, nobody can say anything.
    private mutating func greet() throws(Trouble) {
        guard urgent == nil, recovery.peer != nil, link.hasUrgent else { return }
        adoptUrgent()
        _ = try writeOut()
    }

    private mutating func adoptUrgent() {
        guard urgent == nil, let found = link.urgent else { return }
        urgent = found
        guard let peer = recovery.peer else { return }
        pulse.beginBeat(at: Monotonic.now())
        guard !link.isResumption else { return }
        let hello = ChannelHello(token: peer.token, channel: .urgent, attempt: link.number)
        writer.append { hello.append(to: &$0) }
    }

    /// Hands a request to the background sender. While the queue is full the peer's next requests
    /// stay in the socket; nobody needs this page once nothing is owed.
    private func enqueue(_ page: HostPage) {
        let receivedAt = pulse.heardAt
        while state.queue.withLock({ $0.push(page, at: receivedAt) }) == .full,
            state.owed.remaining.load(ordering: .relaxed) > 0,
            !state.stopsSending.load(ordering: .relaxed)
        {
            Monotonic.sleep(untilNanoseconds: Monotonic.now() + Self.fullQueueNanoseconds)
        }
        state.wakeSender()
    }

    /// The background sender takes a request every write of 64 KiB, some 100 us.
    private static let fullQueueNanoseconds: UInt64 = 100_000
}
