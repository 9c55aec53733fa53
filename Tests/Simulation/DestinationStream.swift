import Synchronization
import MigrationCore
import PageModel
import StreamWire

/// The destination's stream thread: decodes the main channel, obeys it and places background pages.
final class DestinationStream: Worker {
    private var decoder: StreamDecoder
    private var assembly: HostPageAssembly
    private var placer: Placer
    private var buffer = ByteQueue()
    private var package: [UInt8] = []
    private var placed: Placer.Run?
    private var heardAt = 0
    private var hasEnded = false
    private var urgentBefore = 0
    private var fillsMemory = true
    /// RESUME changed the phase, and the other threads do not know yet.
    private var isResuming = false

    private var state: DestinationSide { world.parts.destination }

    init(_ world: World, _ blocks: [BlockGeometry]) {
        decoder = StreamDecoder(blocks: [], machineType: nil)
        assembly = HostPageAssembly(blocks: blocks)
        placer = Placer(blocks, runPagesMax: 4)
        super.init(world, "stream", .destination)
    }

    func begin(_ link: DestinationLink, opening: [UInt8], ramSection: UInt32) {
        let listed = state.blocks.map { ListedBlock($0) }
        decoder =
            link.attempt == 0
            ? StreamDecoder(blocks: listed, machineType: "small-1")
            : StreamDecoder(resuming: listed, ramSection: ramSection, acceptsExtensions: true)
        buffer.removeAll()
        buffer.append(opening[...])
        placed = nil
        isResuming = false
        hasEnded = false
        heardAt = world.now
        link.main.listen(reader: self, writer: state.fault)
        goOn()
    }

    override func step() {
        guard let link = state.link, !link.streamHasEnded else { return }
        // Between the kernel's answer and the received bit nothing is stopped.
        if let run = placed { return settle(run) }
        if isResuming { return resume() }
        if link.isEnding { return end(link) }
        if let run = placer.takeReady() { return place(run) }
        decode(link)
    }

    private func end(_ link: DestinationLink) {
        link.streamHasEnded = true
        assembly.drop()
        placer.drop()
        state.control.goOn()
    }

    private func fail(_ link: DestinationLink, _ event: DestinationEvent, _ why: String) {
        end(link)
        state.report(event, why)
    }

    private func place(_ run: Placer.Run) {
        let size = run.pagesPerHostPage
        for index in 0..<run.pageCount {
            world.parts.guest.place(
                run.block, run.firstPage + index,
                run.versions[index * size..<(index + 1) * size])
        }
        placed = run
        goOn()
    }

    private func settle(_ run: Placer.Run) {
        placed = nil
        let block = BlockIndex(rawValue: run.block)
        state.settle(block, run.pages)
        if state.demand.isAwaited(run.pages, of: block) { state.notify(block, run.pages) }
        goOn()
    }

    private func decode(_ link: DestinationLink) {
        let step: Decoded<StreamItem>
        do throws(WireError) {
            step = try decoder.next(in: buffer.bytes.span, from: buffer.head)
        } catch {
            world.fail("each side speaks the protocol", "to the destination: \(error)")
            return fail(link, .peerMisbehaved, "\(error)")
        }
        guard case .item(let item, let consumed) = step else { return read(link) }
        take(item, link)
        buffer.consume(consumed)
        if !link.streamHasEnded { goOn() }
    }

    private func read(_ link: DestinationLink) {
        // All that is here is decoded: what waits for a neighbour is placed.
        placer.flush()
        if !placer.ready.isEmpty { return goOn() }
        switch link.main.read(into: &buffer) {
        case .bytes:
            heardAt = world.now
            goOn()
        case .failed: fail(link, .linkInterrupted, "the main channel failed")
        case .ended:
            if state.phase == .completed { return end(link) }
            fail(link, .linkInterrupted, "the source closed the main channel")
        case .nothing: rest(link)
        }
    }

    private func rest(_ link: DestinationLink) {
        let limit =
            link.attempt > 0 && !link.mayRequest
            ? Time.handshakeLimit : fillsMemory ? Time.silenceLimit : Time.linkLimit
        guard world.now - heardAt >= limit else { return goOn(at: heardAt + limit) }
        guard hasEnded else { return fail(link, .linkInterrupted, "the source is silent") }
        let missing = state.demand.missing.load(ordering: .relaxed)
        guard missing == 0 || state.urgentTargetPages > urgentBefore else {
            return fail(link, .linkInterrupted, "the source owes \(missing) pages")
        }
        urgentBefore = state.urgentTargetPages
        heardAt = world.now
        goOn(at: heardAt + limit)
    }

    // MARK: - Items

    private func take(_ item: StreamItem, _ link: DestinationLink) {
        switch item {
        case .page(let block, let offset, let payload):
            let version = PageBytes.version(in: buffer.bytes.span, at: payload.lowerBound)
            guard let version else {
                return world.fail("each side speaks the protocol", "a page of other bytes")
            }
            take(version, block, offset, link)
        case .zeroPage(let block, let offset): take(0, block, offset, link)
        case .head: advance(.headReceived, link)
        case .command(let command): obey(command, link)
        case .memorySize: advance(.blockList, link)
        case .packageBytes(let range, let isLast):
            package += buffer.bytes[range]
            if isLast { unpack(link) }
        case .endOfStream:
            placer.flush()
            while let run = placer.takeReady() {
                place(run)
                settle(run)
            }
            hasEnded = true
            urgentBefore = state.urgentTargetPages
            advance(.endOfStream, link)
        case .sectionStart, .sectionResumed, .blockListed, .blockList, .sectionEnd, .trailing,
            .deviceTail:
            break
        }
    }

    private func take(
        _ version: UInt64, _ block: BlockIndex, _ offset: RAMOffset, _ link: DestinationLink
    ) {
        if fillsMemory { return store(version, block, offset) }
        do throws(AssemblyError) {
            let outcome = try assembly.add(targetPageInBlock: offset, of: block)
            if case .complete(let page, _) = outcome, !state.admits(page) {
                world.fail("no page is placed twice", "ram\(block.rawValue) at \(offset.rawValue)")
            }
            placer.add(outcome, version, of: block, at: offset)
        } catch {
            world.fail("each side speaks the protocol", "the main channel: \(error)")
        }
    }

    private func store(_ version: UInt64, _ block: BlockIndex, _ offset: RAMOffset) {
        let geometry = state.blocks[block.rawValue]
        let target = Int(offset.rawValue >> 12)
        world.parts.guest.store(version, block.rawValue, target)
        let page = geometry.hostPage(containing: offset)
        let new = state.demand.received[block.rawValue].insert(
            page..<HostPageIndex(rawValue: page.rawValue + 1))
        state.demand.missing.subtract(new, ordering: .relaxed)
    }

    private func advance(_ event: DestinationEvent, _ link: DestinationLink) {
        leave(state.advance(event), link)
    }

    /// Leaves an action to the control thread; after one that ends the link nothing more is read.
    private func leave(_ action: DestinationAction, _ link: DestinationLink) {
        if action != .none { state.post(.perform(action)) }
        switch state.phase {
        case .paused, .failed: end(link)
        default: break
        }
    }

    private func obey(_ command: Command, _ link: DestinationLink) {
        switch command {
        case .openReturnPath: advance(.returnPathOpened, link)
        case .ping(let value):
            if Extensions.offersRecovery(askedBy: value) {
                decoder.noteExtensions()
                let offer = ExtensionOffer(
                    version: 2, extensions: [.refusalReason, .recovery], token: state.token)
                state.send(.message(.extensions(offer)))
            } else {
                state.send(.message(.pong(value)))
            }
        case .postcopyAdvise:
            let total = state.blocks.reduce(0) { $0 + $1.hostPageCount }
            state.demand.missing.store(total, ordering: .relaxed)
            advance(.advise, link)
        case .discard(let discard): takeBack(discard, link)
        case .packaged: package.removeAll()
        case .receivedBitmap(let block):
            let action = state.advance(.bitmapAsked)
            guard action == .sendBitmap else { return leave(action, link) }
            state.send(.bitmap(block))
        case .postcopyResume:
            let action = state.advance(.resume)
            guard action == .resumePages else { return leave(action, link) }
            isResuming = true
        case .switchoverStart, .hello, .heartbeat: break
        case .postcopyListen, .postcopyRun:
            world.fail("each side speaks the protocol", "LISTEN or RUN outside the package")
        }
    }

    private func resume() {
        isResuming = false
        state.send(.resume)
        state.post(.perform(.resumePages))
        goOn()
    }

    private func takeBack(_ discard: DiscardRanges, _ link: DestinationLink) {
        let action = state.advance(.discard(ranges: UInt16(discard.ranges.count)))
        guard action == .dropRanges else {
            world.parts.source.lateDiscard?.touch()
            return leave(action, link)
        }
        let geometry = state.blocks[discard.block.rawValue]
        for range in discard.ranges {
            let first = geometry.hostPage(containing: range.start)
            let count = Int(range.lengthBytes >> UInt64(geometry.hostPage.shift))
            let gone = state.demand.received[discard.block.rawValue].remove(
                first..<HostPageIndex(rawValue: first.rawValue + count))
            state.demand.missing.add(gone, ordering: .relaxed)
        }
    }

    private func unpack(_ link: DestinationLink) {
        let parts: DevicePackage.Parts
        do throws(WireError) { parts = try DevicePackage.parse(package.span, at: 0) } catch {
            return world.fail("each side speaks the protocol", "the package: \(error)")
        }
        let action = state.advance(.listen)
        guard action == .startListening else { return leave(action, link) }
        world.parts.guest.listen(state.demand.received)
        fillsMemory = false
        heardAt = world.now
        if state.demand.missing.load(ordering: .relaxed) == 0 { advance(.allPagesPlaced, link) }
        package = []
        state.post(.load(pings: parts.pings))
    }
}
