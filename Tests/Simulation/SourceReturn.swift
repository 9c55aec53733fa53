import Synchronization
import MigrationCore
import PageModel
import StreamWire

/// The source's return-path thread: reads what the destination says and sends requested pages itself.
final class SourceReturn: Worker {
    private var decoder: ReturnPathDecoder
    private var buffer = ByteQueue()
    private var urgentOut = ByteQueue()
    private var claimed: HostPage?
    /// The rest of a request, or one that found the queue full.
    private var asked: [HostPage] = []
    private(set) var heardAt = 0
    private var wroteUrgentAt = 0
    private var hasHelloed = false
    private var intake: BitmapIntake?
    private var answered: Set<UInt32> = []

    init(_ world: World) {
        decoder = ReturnPathDecoder(blocks: [], hasAsked: false)
        super.init(world, "return", .source)
    }

    private var state: SourceSide { world.parts.source }

    func begin(_ link: SourceLink, offered: Extensions?) {
        decoder = ReturnPathDecoder(
            blocks: state.listed, hasAsked: offered == nil, offered: offered)
        intake = nil
        if link.isResumed {
            decoder.expectsBitmaps()
            intake = BitmapIntake(
                owed: state.owed, pageCounts: state.blocks.map(\.targetPageCount))
        }
        buffer.removeAll()
        urgentOut.removeAll()
        claimed = nil
        asked = []
        answered = []
        heardAt = world.now
        hasHelloed = false
        link.main.listen(reader: self, writer: state.sender)
        goOn()
    }

    override func step() {
        guard let link = state.link, !link.returnHasEnded else { return }
        if link.isShutDown { return end(link) }
        if link.stopsSending {
            urgentOut.removeAll()
            claimed = nil
            asked = []
        }
        if !urgentOut.isEmpty { return writeUrgent(link) }
        if let page = claimed {
            claimed = nil
            encode(page, link)
            return goOn()
        }
        if serveNext(link) {
            // Nobody but the sender makes room in a full queue.
            return asked.isEmpty || link.urgent != nil
                ? goOn() : goOn(at: world.now + 100 * Time.microsecond)
        }
        if link.endsUrgent, link.urgent != nil {
            link.endsUrgent = false
            helloUrgent(link)
            urgentOut.edit { RAMRecordEncoder.appendEndOfSection(to: &$0) }
            return goOn()
        }
        if takeMessage(link) { return goOn() }
        read(link)
    }

    private func end(_ link: SourceLink) {
        link.returnHasEnded = true
        state.control.goOn()
    }

    private func fail(_ link: SourceLink, _ event: SourceEvent, _ why: String) {
        if event == .peerMisbehaved {
            world.fail("each side speaks the protocol", "to the source: \(why)")
        }
        end(link)
        state.report(event, why)
    }

    private func read(_ link: SourceLink) {
        switch link.main.read(into: &buffer) {
        case .bytes:
            heardAt = world.now
            goOn()
        case .ended: fail(link, .linkLost, "the return path ended")
        case .failed: fail(link, .linkLost, "the return path failed")
        case .nothing: rest(link)
        }
    }

    /// Nothing is readable: judges the silence, and breaks its own.
    private func rest(_ link: SourceLink) {
        let watches =
            state.phase.status == .postcopyDevice
            || state.phase.status == .postcopyActive || link.isResumed
        let limit =
            link.isResumed && !link.isAcknowledged
            ? Time.handshakeLimit : watches ? Time.linkLimit : Time.silenceLimit
        if world.now - heardAt >= limit {
            return fail(link, .linkLost, "the destination is silent")
        }
        var due = heardAt + limit
        if link.urgent != nil, hasHelloed, !link.endsUrgent {
            if world.now - wroteUrgentAt >= Time.beat {
                urgentOut.edit { RAMRecordEncoder.appendHeartbeat(to: &$0) }
                return goOn()
            }
            due = min(due, wroteUrgentAt + Time.beat)
        }
        goOn(at: max(due, world.now + 1))
    }

    // MARK: - The urgent channel

    /// The urgent channel says whose it is as soon as it can.
    func greet(_ link: SourceLink) {
        guard link.urgent != nil, !hasHelloed, state.token != nil else { return }
        wroteUrgentAt = world.now
        helloUrgent(link)
        goOn()
    }

    private func helloUrgent(_ link: SourceLink) {
        guard !hasHelloed, let token = state.token else { return }
        hasHelloed = true
        let hello = ChannelHello(token: token, channel: .urgent, attempt: link.attempt)
        urgentOut.edit { hello.append(to: &$0) }
    }

    private func writeUrgent(_ link: SourceLink) {
        guard let urgent = link.urgent else { return urgentOut.removeAll() }
        guard let count = urgent.write(urgentOut.prefix(urgentOut.count)) else {
            return fail(link, .linkLost, "the urgent channel failed")
        }
        urgentOut.consume(count)
        if count > 0 { wroteUrgentAt = world.now }
        if urgentOut.isEmpty { return goOn() }
        // A peer that has gone takes nothing: the control thread, which does not wait here, judges it.
        if world.now - wroteUrgentAt >= Time.silenceLimit {
            return fail(link, .linkLost, "the urgent channel takes nothing")
        }
        goOn(at: world.now + Time.beat)
    }

    private func encode(_ page: HostPage, _ link: SourceLink) {
        helloUrgent(link)
        world.note(
            "return", "ram\(page.block.rawValue) page \(page.page.rawValue) goes out urgently")
        let pages = state.blocks[page.block.rawValue].targetPages(of: page.page)
        urgentOut.edit { state.append(pages, of: page.block, &state.urgentEncoder, to: &$0) }
    }

    private func serveNext(_ link: SourceLink) -> Bool {
        guard let page = asked.first else { return false }
        guard link.urgent != nil else {
            if state.queue.push(page) != .full { asked.removeFirst() }
            if state.owed.remaining.load(ordering: .relaxed) == 0 { asked.removeAll() }
            state.sender.goOn()
            return true
        }
        asked.removeFirst()
        guard state.owed.claim(page) else { return true }
        state.scanHint = page
        claimed = page
        return true
    }

    // MARK: - Messages

    private func takeMessage(_ link: SourceLink) -> Bool {
        let step: Decoded<ReturnPathMessage>
        do throws(WireError) {
            step = try decoder.next(in: buffer.bytes.span, from: buffer.head)
        } catch {
            fail(link, .peerMisbehaved, "\(error)")
            return true
        }
        guard case .item(let message, let consumed) = step else { return false }
        if case .bitmapBytes(let block, let first, let range) = message {
            takeBits(block, first, range)
        }
        buffer.consume(consumed)
        take(message, link)
        return true
    }

    private func takeBits(_ block: BlockIndex, _ first: Int, _ range: Range<Int>) {
        for (index, at) in stride(from: range.lowerBound, to: range.upperBound, by: 8).enumerated()
        {
            let word = ReceivedBitmap.word(in: buffer.bytes.span, at: at)
            intake?.take(received: word, at: first + index, of: block)
        }
    }

    private func take(_ message: ReturnPathMessage, _ link: SourceLink) {
        switch message {
        case .pong(let value): takePong(value)
        case .shut(let error): state.report(.shut(error: error), "SHUT \(error)")
        case .requestPages(let block, let start, let length):
            takeRequest(block, start, length, link)
        case .extensions(let offer):
            state.token = offer.token
            greet(link)
        case .recoveryAnswer(let answer): state.post(.answer(answer))
        case .resumeAcknowledged:
            link.isAcknowledged = true
            state.report(.resumed, "RESUME_ACK")
        case .receivedBitmap(let block):
            do throws(BitmapIntake.Unasked) { try intake?.begin(block) } catch {
                fail(link, .peerMisbehaved, "a bitmap of ram\(block.rawValue) that is not due")
            }
        case .bitmapEnd(let block):
            world.note("return", "the bitmap of ram\(block.rawValue) ends")
            if intake?.end(block) == true {
                world.reached(.bitmapsCame)
                state.report(.bitmapsReceived, "all bitmaps")
            }
        case .bitmapBytes, .heartbeat, .refusalReason: break
        }
    }

    private func takePong(_ value: UInt32) {
        guard answered.insert(value).inserted else { return }
        switch PingValue(rawValue: value) {
        case .returnPathOpened: state.report(.returnPathAnswered, "PONG 1")
        case .beforePackage: state.post(.ready)
        case .committedToRun: state.report(.committed, "PONG 0x42")
        case .devicesLoaded, .afterPackage, nil: break
        }
    }

    private func takeRequest(
        _ block: BlockIndex, _ start: RAMOffset, _ length: UInt64, _ link: SourceLink
    ) {
        if !link.isAcknowledged || !link.mayServe {
            world.fail("nothing is asked before RESUME_ACK", "ram\(block.rawValue)")
        }
        let geometry = state.blocks[block.rawValue]
        let first = geometry.hostPage(containing: start).rawValue
        let count = Int(length >> UInt64(geometry.hostPage.shift))
        for page in first..<first + count {
            asked.append(HostPage(block: block, page: HostPageIndex(rawValue: page)))
        }
        // The next message is read when this one is served: the list is never longer than one request.
        if asked.count > count {
            world.fail("bounded queues stay bounded", "\(asked.count) pages of \(count) asked for")
        }
    }
}
