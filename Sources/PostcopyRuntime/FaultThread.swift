internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The destination's urgent traffic: faults in, requests out, urgent pages placed, blocktime counted.
///
/// It alone reads the userfaultfd, writes the return path and reads the urgent channel, so that a
/// fault meets no lock and no second thread on its way.
struct FaultThread: ~Copyable {
    private let state: DestinationState
    private let link: DestinationLink
    /// Whoever connected and was not yet found to be a stranger; once a channel brought a record, it
    /// alone.
    private var channels: [UrgentChannel] = []
    private var hasUrgent = false
    private var placer: PagePlacer
    private var encoder: ReturnPathEncoder
    private var blocktime = Blocktime(vcpuThreads: [])
    private var knowsVCPUs = false
    /// Return-path bytes that go out in one write.
    private var outgoing: [UInt8] = []
    private var messages: [ReturnPathMessage] = []
    private var notices: [PlacedRange] = []
    private var passageRequests: [HostPage] = []

    /// Why this thread cannot go on.
    private struct Trouble: Error {
        let event: DestinationEvent
        let problem: String
        /// Said by a connection that brought no page yet, and yet the source's.
        var refusesSource = false
    }

    init(state: DestinationState, link: DestinationLink) {
        self.state = state
        self.link = link
        placer = PagePlacer(state: state, channel: .urgent)
        encoder = ReturnPathEncoder(blocks: state.geometries)
    }

    /// Serves until it is told to end, and answers the blocktime it saw.
    mutating func run() -> BlocktimeReport {
        preferShortSlices()
        do throws(Trouble) { try serve() } catch {
            // The source may be writing an urgent page that nobody will read.
            channels = []
            state.report(error.event, problem: error.problem)
            // Blocktime goes on by the stream's notices, and the source is still due its last word.
            waitForEnd()
        }
        link.lastWordSent.raise()
        return blocktime.finish(at: Monotonic.now())
    }

    private mutating func serve() throws(Trouble) {
        var waits = Waits(state: state, channels)
        while true {
            _ = waits.poller.wait(timeoutNanoseconds: .max)
            if waits.poller.isReady(waits.flag) {
                state.faultFlag.clear()
                // Asked before the outbox is emptied: what was posted before is still sent.
                let isEnding = link.isEnding.load(ordering: .acquiring)
                takeMail()
                try sendOutgoing()
                if isEnding { return }
                takeArrived()
            }
            if waits.poller.isReady(waits.faults) { try takeFaults() }
            for (place, channel) in waits.channels where waits.poller.isReady(place) {
                try takeUrgentPages(from: channel)
            }
            if !waits.areFor(channels) { waits = Waits(state: state, channels) }
        }
    }

    /// Strangers beyond these are turned away: a source opens one channel.
    private static let channelsMax = 4

    private mutating func takeArrived() {
        for socket in link.takeArrived() where !hasUrgent && channels.count < Self.channelsMax {
            channels.append(UrgentChannel(socket, list: state.list))
        }
    }

    /// Reads what faults there are and asks for their pages in one write.
    private mutating func takeFaults() throws(Trouble) {
        noteVCPUs()
        let state = state
        let now = Monotonic.now()
        var trouble: PlacingError?
        do {
            _ = try state.uffd.readEvents { event in
                guard trouble == nil, let page = state.hostPage(at: event.address) else { return }
                do throws(PlacingError) { try answer(event, page, at: now) } catch {
                    trouble = error
                }
            }
        } catch {
            throw Trouble(event: .linkLost, problem: "reading page faults: \(error)")
        }
        if let trouble { throw Trouble(event: .linkLost, problem: trouble.description) }
        try sendOutgoing()
    }

    private mutating func answer(
        _ event: FaultEvent, _ page: HostPage, at now: UInt64
    ) throws(PlacingError) {
        state.counters.faults.add(1, ordering: .relaxed)
        blocktime.begin(thread: event.thread, page: page, at: now)
        state.firstFaults?.note(page)
        switch state.demand.want(page) {
        case .request: request(page)
        case .wait: break
        case .present:
            try placer.settleFault(in: page, at: event.address)
            close(page, at: Monotonic.now())
        }
    }

    private mutating func request(_ page: HostPage) {
        let geometry = state.geometries[page.block.rawValue]
        encoder.append(
            .requestPages(
                block: page.block, start: geometry.offset(of: page.page),
                lengthBytes: geometry.hostPage.bytes),
            to: &outgoing)
        state.counters.requests.add(1, ordering: .relaxed)
    }

    /// Asks for what the guest's next host waits for.
    private mutating func takePassageRequests() {
        guard let passage = state.passage else { return }
        passage.requests.drain(into: &passageRequests)
        for page in passageRequests where state.demand.want(page) == .request { request(page) }
        passageRequests.removeAll(keepingCapacity: true)
    }

    private mutating func takeUrgentPages(from channel: UrgentChannel) throws(Trouble) {
        // It may have been dropped since it was found ready.
        guard channels.contains(where: { $0 === channel }) else { return }
        do throws(Trouble) {
            guard try !placeWhatCame(on: channel) else { return }
            let isComplete = state.demand.missing.load(ordering: .relaxed) == 0
            guard (channel.hasEnded && placer.isIdle) || isComplete else {
                throw Trouble(
                    event: .peerMisbehaved, problem: "the source closed the urgent channel")
            }
        } catch {
            // The main channel holds: the source can be told, and so run its guest again. Whoever
            // brought no page yet is no part of this migration, and its end no trouble.
            if hasUrgent || error.refusesSource { throw error }
        }
        channels.removeAll { $0 === channel }
    }

    /// Places all that is there; `false` once the channel's end was read.
    private mutating func placeWhatCame(on channel: UrgentChannel) throws(Trouble) -> Bool {
        while true {
            let received: Int?
            do { received = try channel.fill() } catch {
                throw Trouble(
                    event: .peerMisbehaved, problem: "the urgent channel failed: \(error)")
            }
            guard let received else { return true }
            state.counters.receivedBytes.add(UInt64(received), ordering: .relaxed)
            guard received > 0, try placeRecords(of: channel) else { return false }
        }
    }

    /// Places the pages that arrived whole; `false` once the channel's end was read.
    private mutating func placeRecords(of channel: UrgentChannel) throws(Trouble) -> Bool {
        while true {
            let step: UrgentChannel.Step
            do { step = try channel.next(into: &placer) } catch { throw trouble(error) }
            if case .needMoreBytes = step { return true }
            choose(channel)
            switch step {
            case .placed(let placed):
                state.settle(placed)
                close(placed)
            case .kept, .needMoreBytes: break
            case .ended: return false
            }
        }
    }

    private func trouble(_ error: UrgentChannel.Trouble) -> Trouble {
        guard case .other(let other) = error else {
            return Trouble(event: .peerMisbehaved, problem: "the urgent channel: \(error)")
        }
        if other == .migration { state.counters.otherMigrations.add(1, ordering: .relaxed) }
        // Multifd channels are opened at the start. Later on it is a stranger who says so, and a guest
        // that may be moving is not stopped for one.
        return Trouble(
            event: .peerMisbehaved, problem: "\(error)",
            refusesSource: other == .multifd && state.currentPhase.isBeforeSwitch)
    }

    private mutating func choose(_ channel: UrgentChannel) {
        guard !hasUrgent else { return }
        hasUrgent = true
        channels = [channel]
        link.hasUrgent.store(true, ordering: .releasing)
        state.controlFlag.raise()
    }

    private mutating func takeMail() {
        state.outbox.drain(into: &messages)
        for message in messages { encoder.append(message, to: &outgoing) }
        messages.removeAll(keepingCapacity: true)
        state.notices.drain(into: &notices)
        for notice in notices { close(notice) }
        notices.removeAll(keepingCapacity: true)
        takePassageRequests()
    }

    private mutating func sendOutgoing() throws(Trouble) {
        defer { outgoing.removeAll(keepingCapacity: true) }
        var sent = 0
        while sent < outgoing.count {
            do { sent += try link.main.sendWithoutWaiting(outgoing.span, from: sent) } catch {
                throw Trouble(event: .linkLost, problem: "the link to the source failed: \(error)")
            }
            if sent < outgoing.count { try waitForRoom() }
        }
    }

    /// The source reads no request while it writes urgent pages: take those, or both sides wait for
    /// each other.
    private mutating func waitForRoom() throws(Trouble) {
        var poller = Poller(capacity: 2)
        poller.watchRoom(in: link.main)
        let places = channels.map { ($0.isWatched(by: &poller), $0) }
        guard poller.wait(timeoutNanoseconds: state.options.silenceNanosecondsMax) > 0 else {
            throw Trouble(event: .linkLost, problem: "the source reads nothing")
        }
        for (place, channel) in places where poller.isReady(place) {
            try takeUrgentPages(from: channel)
        }
    }

    /// Ends the waits for what was placed.
    private mutating func close(_ placed: PlacedRange) {
        let requested = state.demand.requested[placed.block.rawValue]
        while let page = requested.first(in: placed.pages) {
            close(HostPage(block: placed.block, page: page), at: placed.atNanoseconds)
        }
    }

    private mutating func close(_ page: HostPage, at instant: UInt64) {
        state.demand.close(page)
        blocktime.placed(page: page, at: instant)
    }

    /// The guest has its vCPU threads once its devices are loaded, which is before they run. It is not
    /// asked here: a vCPU may wait for a page with the lock that its answer needs.
    private mutating func noteVCPUs() {
        guard !knowsVCPUs, let threads = state.vcpuThreads.withLock({ $0 }) else { return }
        blocktime.setVCPUThreads(threads, at: Monotonic.now())
        knowsVCPUs = true
    }

    private mutating func waitForEnd() {
        while !link.isEnding.load(ordering: .acquiring) {
            state.faultFlag.wait()
            state.faultFlag.clear()
            takeMail()
            // Best effort: the trouble that led here is reported already.
            try? sendOutgoing()
        }
        takeMail()
        try? sendOutgoing()
    }

    /// What the thread waits for.
    private struct Waits {
        var poller: Poller
        let flag: Int
        let faults: Int
        let channels: [(place: Int, channel: UrgentChannel)]

        init(state: DestinationState, _ channels: [UrgentChannel]) {
            var poller = Poller(capacity: 2 + FaultThread.channelsMax)
            flag = poller.watch(state.faultFlag)
            faults = poller.watch(state.uffd)
            self.channels = channels.map { ($0.isWatched(by: &poller), $0) }
            self.poller = poller
        }

        func areFor(_ current: [UrgentChannel]) -> Bool {
            channels.count == current.count
                && zip(channels, current).allSatisfy { $0.channel === $1 }
        }
    }
}
