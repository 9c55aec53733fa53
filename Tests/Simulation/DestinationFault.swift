import Synchronization
import MigrationCore
import PageModel
import StreamWire

/// The destination's fault thread: faults in, requests out, urgent pages placed. It lives as long as the
/// guest waits for pages, whatever becomes of its link.
final class DestinationFault: Worker {
    private var encoder: ReturnPathEncoder
    private var decoder: RAMRecordDecoder
    private var assembly: HostPageAssembly
    private var placer: Placer
    private var outgoing = ByteQueue()
    private var urgent = ByteQueue()
    private var position: UInt64 = 0
    private var placed: Placer.Run?
    private var asked: Set<HostPage> = []
    private var times = Times()
    private var flags = Flags()

    private struct Times {
        var wrote = 0
        var heardUrgent = 0
    }

    private struct Flags {
        var offers = false
        var hasUrgentSpoken = false
        var urgentHasEnded = false
        var isMuted = false
    }

    private let blocks: [BlockGeometry]
    private var state: DestinationSide { world.parts.destination }

    init(_ world: World, _ blocks: [BlockGeometry]) {
        self.blocks = blocks
        encoder = ReturnPathEncoder(blocks: blocks)
        decoder = RAMRecordDecoder(blocks: [])
        assembly = HostPageAssembly(blocks: blocks)
        placer = Placer(blocks, runPagesMax: 1)
        super.init(world, "fault", .destination)
    }

    func begin(_ link: DestinationLink, answer: RecoveryAnswer?) {
        flags = Flags(offers: link.attempt > 0)
        times = Times(wrote: world.now, heardUrgent: world.now)
        asked.removeAll()
        if link.attempt == 0 {
            encoder = ReturnPathEncoder(blocks: blocks)
        } else {
            encoder = ReturnPathEncoder(blocks: blocks, offered: [.refusalReason, .recovery])
        }
        outgoing.removeAll()
        if let answer { outgoing.edit { encoder.append(.recoveryAnswer(answer), to: &$0) } }
        goOn()
    }

    func adoptUrgent(_ link: DestinationLink, _ opening: [UInt8]) {
        decoder = RAMRecordDecoder(
            blocks: blocks.map { ListedBlock($0) }, acceptsHeartbeats: true)
        position = UInt64(ChannelHello.wireBytes)
        urgent.removeAll()
        urgent.append(opening[...])
        flags.hasUrgentSpoken = true
        flags.urgentHasEnded = false
        times.heardUrgent = world.now
        link.urgent?.listen(reader: self, writer: nil)
        goOn()
    }

    override func step() {
        if let run = placed { return settle(run) }
        let link = state.link
        if let link, link.isEnding, !link.faultHasLetGo { return letGo(link) }
        let isUp = link.map { !$0.isEnding } ?? false
        if let run = placer.takeReady() { return place(run) }
        if let notice = state.nextNotice() {
            close(notice.block, notice.pages)
            return goOn()
        }
        if let link, isUp {
            if !outgoing.isEmpty, flush(link) { return }
            if let message = state.nextOutgoing() {
                take(message, link)
                return goOn()
            }
        }
        if let page = world.parts.guest.nextFault() {
            answer(page, link)
            return goOn()
        }
        guard let link, isUp, !flags.isMuted else { return }
        if takeUrgent(link) { return }
        rest(link)
    }

    private func letGo(_ link: DestinationLink) {
        link.faultHasLetGo = true
        outgoing.removeAll()
        urgent.removeAll()
        assembly.drop()
        placer.drop()
        state.control.goOn()
        goOn()
    }

    private func fail(_ why: String) {
        flags.isMuted = true
        outgoing.removeAll()
        state.report(.linkInterrupted, why)
    }

    /// Whether all that was to be said is said.
    var isSilent: Bool { outgoing.isEmpty && state.outbox.isEmpty }

    // MARK: - Faults

    private func answer(_ page: HostPage, _ link: DestinationLink?) {
        switch state.demand.want(page) {
        case .request:
            guard let link, !link.isEnding, link.mayRequest else { return }
            request(page)
        case .wait: break
        case .present:
            world.parts.guest.wakeWaiters(of: page)
            state.demand.close(page)
        }
    }

    private func request(_ page: HostPage) {
        asked.insert(page)
        let geometry = blocks[page.block.rawValue]
        world.note("fault", "asks for ram\(page.block.rawValue) page \(page.page.rawValue)")
        outgoing.edit {
            encoder.append(
                .requestPages(
                    block: page.block, start: geometry.offset(of: page.page),
                    lengthBytes: geometry.hostPage.bytes), to: &$0)
        }
    }

    private func close(_ block: BlockIndex, _ pages: Range<HostPageIndex>) {
        while let page = state.demand.requested[block.rawValue].first(in: pages) {
            state.demand.close(HostPage(block: block, page: page))
        }
    }

    // MARK: - The return path

    private func take(_ message: DestinationSide.Outgoing, _ link: DestinationLink) {
        switch message {
        case .message(let message):
            if case .extensions = message { flags.offers = true }
            outgoing.edit { encoder.append(message, to: &$0) }
        case .bitmap(let block):
            outgoing.edit {
                encoder.appendReceivedBitmap(
                    of: block, state.demand.received[block.rawValue], to: &$0)
            }
        case .resume:
            outgoing.edit { encoder.append(.resumeAcknowledged, to: &$0) }
            askAgain()
            link.mayRequest = true
        }
    }

    private func askAgain() {
        var place = HostPage(block: BlockIndex(rawValue: 0), page: HostPageIndex(rawValue: 0))
        while let page = state.demand.nextOutstanding(from: place) {
            request(page)
            place = HostPage(
                block: page.block, page: HostPageIndex(rawValue: page.page.rawValue + 1))
        }
        let guest = world.parts.guest
        let unread = guest.faults
        for page in guest.waitedFor where !asked.contains(page) && !unread.contains(page) {
            guard !state.demand.received[page.block.rawValue].contains(page.page) else { continue }
            world.fail(
                "who waits is asked for again",
                "ram\(page.block.rawValue) page \(page.page.rawValue)")
        }
    }

    /// Writes what is to be said; answers whether that was all this step did.
    private func flush(_ link: DestinationLink) -> Bool {
        guard !flags.isMuted else {
            outgoing.removeAll()
            return false
        }
        guard let count = link.main.write(outgoing.prefix(outgoing.count)) else {
            fail("the return path failed")
            return true
        }
        outgoing.consume(count)
        guard count > 0 else { return false }
        times.wrote = world.now
        goOn()
        return true
    }

    /// Nothing to do: keeps the source from thinking that this side is gone, and judges its silence.
    private func rest(_ link: DestinationLink) {
        var due = Int.max
        if flags.offers, outgoing.isEmpty {
            if world.now - times.wrote >= Time.beat {
                outgoing.edit { encoder.append(.heartbeat, to: &$0) }
                return goOn()
            }
            due = times.wrote + Time.beat
        }
        if link.urgent != nil, flags.hasUrgentSpoken, !flags.urgentHasEnded {
            if world.now - times.heardUrgent >= Time.linkLimit {
                return fail("the urgent channel is silent")
            }
            due = min(due, times.heardUrgent + Time.linkLimit)
        }
        if due < .max { goOn(at: due) }
    }

    // MARK: - The urgent channel

    private func takeUrgent(_ link: DestinationLink) -> Bool {
        guard let socket = link.urgent, !flags.urgentHasEnded else { return false }
        let step: Decoded<RAMRecord>
        do throws(WireError) {
            step = try decoder.next(in: urgent.bytes.span, from: urgent.head, position: position)
        } catch {
            world.fail("each side speaks the protocol", "the urgent channel: \(error)")
            return true
        }
        if case .item(let record, let consumed) = step {
            take(record)
            urgent.consume(consumed)
            position += UInt64(consumed)
            goOn()
            return true
        }
        switch socket.read(into: &urgent) {
        case .bytes:
            times.heardUrgent = world.now
            goOn()
        case .nothing: return false
        case .ended, .failed:
            flags.urgentHasEnded = true
            if state.demand.missing.load(ordering: .relaxed) == 0 {
                goOn()
            } else {
                fail("the urgent channel ended")
            }
        }
        return true
    }

    private func take(_ record: RAMRecord) {
        switch record {
        case .page(let block, let offset, let payload):
            let version = PageBytes.version(in: urgent.bytes.span, at: payload.lowerBound)
            guard let version else {
                return world.fail("each side speaks the protocol", "a page of other bytes")
            }
            add(version, block, offset)
        case .zeroPage(let block, let offset): add(0, block, offset)
        case .endOfSection: flags.urgentHasEnded = true
        case .heartbeat: break
        }
    }

    private func add(_ version: UInt64, _ block: BlockIndex, _ offset: RAMOffset) {
        state.urgentTargetPages += 1
        do throws(AssemblyError) {
            let outcome = try assembly.add(targetPageInBlock: offset, of: block)
            if case .complete(let page, _) = outcome, !state.admits(page) {
                world.fail("no page is placed twice", "ram\(block.rawValue) at \(offset.rawValue)")
            }
            placer.add(outcome, version, of: block, at: offset)
        } catch {
            world.fail("each side speaks the protocol", "the urgent channel: \(error)")
        }
    }

    private func place(_ run: Placer.Run) {
        world.parts.guest.place(run.block, run.firstPage, run.versions[...])
        placed = run
        goOn()
    }

    private func settle(_ run: Placer.Run) {
        placed = nil
        let block = BlockIndex(rawValue: run.block)
        state.settle(block, run.pages)
        close(block, run.pages)
        goOn()
    }
}
