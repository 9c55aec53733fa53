internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The source's urgent traffic: reads the return path and answers page requests itself, on the urgent
/// channel, since a hop to another thread can cost more than the page.
struct ReturnPathThread: ~Copyable {
    private let state: SourceState
    private let link: SourceLink
    private var decoder: ReturnPathDecoder
    private var writer: PageWriter
    private var urgent: StreamSocket?
    private var answered: Set<PingValue> = []
    private var knowsLengths = false
    /// Why the destination gives up, in its own words.
    private var reason: String?
    private var arrivals: [HostPage] = []

    /// Requests of 32 bytes: two thousand threads may fault at once before the peer waits.
    private static let bufferBytes = 64 << 10

    private struct Trouble: Error {
        let event: SourceEvent
        let problem: String
    }

    init(state: SourceState, link: SourceLink) {
        self.state = state
        self.link = link
        decoder = ReturnPathDecoder(blocks: state.list.listed, hasAsked: false)
        writer = PageWriter(state: state)
    }

    /// Reads until the destination closes, and reports what it says.
    mutating func run() {
        preferShortSlices()
        do throws(Trouble) { try serve() } catch {
            state.report(error.event, problem: error.problem)
        }
        link.returnPathEnded.raise()
    }

    private mutating func serve() throws(Trouble) {
        var buffer = ReceiveBuffer(capacityBytes: Self.bufferBytes)
        var poller = Poller(capacity: 2)
        let flag = poller.watch(state.returnPathFlag)
        let main = poller.watch(link.main)
        while true {
            _ = poller.wait(timeoutNanoseconds: .max)
            if poller.isReady(flag) {
                state.returnPathFlag.clear()
                try takeOrders()
            }
            guard poller.isReady(main) else { continue }
            try receive(into: &buffer)
            let consumed = try buffer.withBytes { bytes throws(Trouble) in try decode(bytes) }
            buffer.consume(consumed)
            try flush()
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
        state.counters.heardAtNanoseconds.store(Monotonic.now(), ordering: .relaxed)
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
            try take(message)
        }
    }

    /// Requests are judged by the lengths that were frozen before the first of them may come.
    private mutating func noteLengths() {
        guard !knowsLengths, state.mayServe.load(ordering: .acquiring) else { return }
        decoder.resize(state.list.listed)
        knowsLengths = true
    }

    private mutating func take(_ message: ReturnPathMessage) throws(Trouble) {
        switch message {
        case .pong(let value): takePong(value)
        case .shut(let error):
            state.report(.shut(error: error), problem: error == 0 ? nil : refusal(error))
        case .extensions: break
        case .refusalReason(let text): reason = text
        case .requestPages(let block, let start, let length):
            guard state.mayServe.load(ordering: .acquiring) else {
                throw Trouble(
                    event: .peerMisbehaved,
                    problem: "the destination asked for pages before it had the guest")
            }
            state.counters.requests.add(1, ordering: .relaxed)
            try serve(block, start, lengthBytes: length)
        case .recoveryAnswer, .heartbeat, .resumeAcknowledged, .receivedBitmap, .bitmapBytes,
            .bitmapEnd:
            throw Trouble(
                event: .peerMisbehaved,
                problem: "the destination broke the protocol: nothing is being recovered")
        }
    }

    private func refusal(_ error: UInt32) -> String {
        guard let reason else { return "the destination gave up with error \(error)" }
        return "the destination refused: \(PeerText.plain(reason))"
    }

    /// Each answer is news once: a flood of PONGs must not crowd out what matters.
    private mutating func takePong(_ value: UInt32) {
        guard let known = PingValue(rawValue: value), answered.insert(known).inserted else {
            return
        }
        switch known {
        case .returnPathOpened: state.report(.returnPathAnswered)
        case .committedToRun: state.report(.committed)
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
        guard link.hasUrgent else {
            // The background sender passes over what it cannot claim.
            if state.passage?.want(page) != true { enqueue(page) }
            return
        }
        guard state.claim(page) || claimOnceHere(page) else { return }
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

    private mutating func writeUrgent(_ page: HostPage) throws(Trouble) {
        adoptUrgent()
        do {
            switch urgent {
            case .some(let socket): try writer.write(page, to: socket)
            case .none: preconditionFailure("an urgent channel that exists was delivered")
            }
        } catch { throw urgentTrouble(error) }
    }

    private mutating func flush() throws(Trouble) {
        do {
            switch urgent {
            case .some(let socket): try writer.flush(to: socket)
            case .none: return
            }
        } catch { throw urgentTrouble(error) }
        state.noteUrgent(bytes: writer.takeWrittenBytes())
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
        guard link.endsUrgent.exchange(false, ordering: .acquiring), link.hasUrgent else { return }
        adoptUrgent()
        writer.append { RAMRecordEncoder.appendEndOfSection(to: &$0) }
        try flush()
    }

    private mutating func adoptUrgent() {
        guard urgent == nil else { return }
        urgent = link.takeUrgent()
    }

    /// Hands a request to the background sender. While the queue is full the peer's next requests
    /// stay in the socket; nobody needs this page once nothing is owed.
    private func enqueue(_ page: HostPage) {
        while state.queue.withLock({ $0.push(page) }) == .full,
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
