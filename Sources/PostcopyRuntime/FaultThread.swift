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
    private var urgent: UrgentChannel?
    private var placer: PagePlacer
    private var encoder: ReturnPathEncoder
    private var blocktime = Blocktime(vcpuThreads: [])
    private var knowsVCPUs = false
    /// Return-path bytes that go out in one write.
    private var outgoing: [UInt8] = []
    private var messages: [ReturnPathMessage] = []
    private var notices: [PlacedRange] = []

    /// Why this thread cannot go on.
    private struct Trouble: Error {
        let event: DestinationEvent
        let problem: String
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
            urgent = nil
            state.report(error.event, problem: error.problem)
            // Blocktime goes on by the stream's notices, and the source is still due its last word.
            waitForEnd()
        }
        link.lastWordSent.raise()
        return blocktime.finish(at: Monotonic.now())
    }

    private mutating func serve() throws(Trouble) {
        var waits = Waits(state: state, urgent: nil)
        while true {
            _ = waits.poller.wait(timeoutNanoseconds: .max)
            if waits.poller.isReady(waits.flag) {
                state.faultFlag.clear()
                // Asked before the outbox is emptied: what was posted before is still sent.
                let isEnding = link.isEnding.load(ordering: .acquiring)
                takeMail()
                try sendOutgoing()
                if isEnding { return }
                if let socket = link.takeUrgent() {
                    urgent = UrgentChannel(socket, blocks: state.geometries)
                    waits = Waits(state: state, urgent: urgent)
                }
            }
            if waits.poller.isReady(waits.faults) { try takeFaults() }
            if let place = waits.urgent, waits.poller.isReady(place) {
                try takeUrgentPages()
                if urgent == nil { waits = Waits(state: state, urgent: nil) }
            }
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
        // First requested, then received: a placer does it the other way round.
        let isNew = state.requested[page.block.rawValue].insert(page.page)
        guard !state.received[page.block.rawValue].contains(page.page) else {
            try placer.settleFault(in: page)
            close(page, at: Monotonic.now())
            return
        }
        guard isNew else { return }
        let geometry = state.geometries[page.block.rawValue]
        encoder.append(
            .requestPages(
                block: page.block, start: geometry.offset(of: page.page),
                lengthBytes: geometry.hostPage.bytes),
            to: &outgoing)
        state.counters.requests.add(1, ordering: .relaxed)
    }

    private mutating func takeUrgentPages() throws(Trouble) {
        var isOpen = true
        while isOpen {
            let received: Int?
            do { received = try urgent?.fill() } catch {
                // The main channel holds: the source can be told, and so run its guest again.
                throw Trouble(
                    event: .peerMisbehaved, problem: "the urgent channel failed: \(error)")
            }
            guard let received else { return }
            state.counters.receivedBytes.add(UInt64(received), ordering: .relaxed)
            isOpen = received > 0 ? try placeUrgentPages() : false
        }
        let isComplete = state.counters.missingPages.load(ordering: .relaxed) == 0
        let isProper = urgent?.hasEnded == true && placer.isIdle
        urgent = nil
        guard isProper || isComplete else {
            throw Trouble(event: .peerMisbehaved, problem: "the source closed the urgent channel")
        }
    }

    /// Places the pages that arrived whole; `false` once the channel's end was read.
    private mutating func placeUrgentPages() throws(Trouble) -> Bool {
        while true {
            let step: UrgentChannel.Step
            do {
                guard let next = try urgent?.next(into: &placer) else { return false }
                step = next
            } catch {
                throw Trouble(event: .peerMisbehaved, problem: "the urgent channel: \(error)")
            }
            switch step {
            case .placed(let placed):
                state.settle(placed)
                close(placed)
            case .kept: break
            case .needMoreBytes: return true
            case .ended: return false
            }
        }
    }

    private mutating func takeMail() {
        state.outbox.drain(into: &messages)
        for message in messages { encoder.append(message, to: &outgoing) }
        messages.removeAll(keepingCapacity: true)
        state.notices.drain(into: &notices)
        for notice in notices { close(notice) }
        notices.removeAll(keepingCapacity: true)
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
        var pages: Int?
        switch urgent {
        case .some(let channel): pages = poller.watch(channel.socket)
        case .none: pages = nil
        }
        guard poller.wait(timeoutNanoseconds: state.options.silenceNanosecondsMax) > 0 else {
            throw Trouble(event: .linkLost, problem: "the source reads nothing")
        }
        if let pages, poller.isReady(pages) { try takeUrgentPages() }
    }

    /// Ends the waits for what was placed.
    private mutating func close(_ placed: PlacedRange) {
        let requested = state.requested[placed.block.rawValue]
        while let page = requested.first(in: placed.pages) {
            close(HostPage(block: placed.block, page: page), at: placed.atNanoseconds)
        }
    }

    private mutating func close(_ page: HostPage, at instant: UInt64) {
        state.requested[page.block.rawValue].remove(page.page)
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
        var poller = Poller(capacity: 3)
        let flag: Int
        let faults: Int
        let urgent: Int?

        init(state: DestinationState, urgent channel: borrowing UrgentChannel?) {
            flag = poller.watch(state.faultFlag)
            faults = poller.watch(state.uffd)
            switch channel {
            case .some(let channel): urgent = poller.watch(channel.socket)
            case .none: urgent = nil
            }
        }
    }
}
