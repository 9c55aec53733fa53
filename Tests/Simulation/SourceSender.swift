import MigrationCore
import PageModel
import StreamWire

/// The source's background sender: claims, then encodes, then writes, each in a step of its own.
final class SourceSender: Worker {
    private var cursor = SendCursor()
    private var outgoing = ByteQueue()
    private var claimed: (block: BlockIndex, pages: Range<Int>)?
    private var isInSection = false
    private var reportsEnd = false
    /// The source is to say what it may not say any more.
    var rogue: Trouble?

    init(_ world: World) { super.init(world, "send", .source) }

    private var state: SourceSide { world.parts.source }

    func begin(_ link: SourceLink) {
        link.senderHasEnded = false
        cursor = SendCursor()
        outgoing.removeAll()
        claimed = nil
        isInSection = false
        reportsEnd = false
        goOn()
    }

    override func step() {
        guard let link = state.link, !link.senderHasEnded else { return }
        if link.stopsSending || link.isShutDown { return end(link) }
        guard outgoing.isEmpty else { return write(link) }
        if reportsEnd {
            end(link)
            return state.report(.allPagesSent, "the sender found nothing owed")
        }
        if let claimed {
            self.claimed = nil
            encode(claimed, link)
            return goOn()
        }
        if takeWork(link) { return goOn() }
        if isInSection {
            isInSection = false
            outgoing.edit { StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &$0) }
        }
        reportsEnd = true
        goOn()
    }

    private func end(_ link: SourceLink) {
        link.senderHasEnded = true
        state.control.goOn()
    }

    private func write(_ link: SourceLink) {
        guard let count = link.main.write(outgoing.prefix(outgoing.count)) else {
            end(link)
            return state.report(.linkLost, "the sender's write failed")
        }
        outgoing.consume(count)
        if count > 0 { link.wroteMainAt = world.now }
        guard outgoing.isEmpty else { return }
        goOn(
            at: world.now + world.stepTime()
                + (world.scenario.restMax == 0
                    ? 0 : world.draw(world.scenario.restMax)))
    }

    private func takeWork(_ link: SourceLink) -> Bool {
        if let rogue = rogue.take() {
            discardTooLate(rogue)
            return true
        }
        if link.urgent == nil, let page = state.queue.pop() {
            state.scanHint = page
            guard state.owed.claim(page) else { return true }
            claimed = (page.block, state.blocks[page.block.rawValue].targetPages(of: page.page))
            return true
        }
        if let hint = state.scanHint {
            state.scanHint = nil
            cursor.goOn(behind: hint, of: state.blocks[hint.block.rawValue])
        }
        claimed = state.owed.claimNext(from: &cursor, countMax: 1 + world.draw(4))
        return claimed != nil
    }

    private func discardTooLate(_ trouble: Trouble) {
        state.lateDiscard = trouble
        let block = BlockIndex(rawValue: world.draw(state.blocks.count))
        let geometry = state.blocks[block.rawValue]
        let page = HostPageIndex(rawValue: world.draw(geometry.hostPageCount))
        let range = DiscardRange(
            start: geometry.offset(of: page), lengthBytes: geometry.hostPage.bytes)
        outgoing.edit { bytes in
            if isInSection {
                StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &bytes)
            }
            StreamEncoder.appendCommand(
                .discard(DiscardRanges(block: block, ranges: [range])), blocks: state.blocks,
                to: &bytes)
        }
        isInSection = false
    }

    private func encode(_ run: (block: BlockIndex, pages: Range<Int>), _ link: SourceLink) {
        outgoing.edit { bytes in
            if !isInSection {
                isInSection = true
                StreamEncoder.appendSectionResumed(id: SourceSide.section, last: false, to: &bytes)
            }
            state.append(run.pages, of: run.block, &state.mainEncoder, to: &bytes)
        }
        world.note("send", "ram\(run.block.rawValue) target pages \(run.pages)")
        if world.draw(6) == 0 {
            isInSection = false
            outgoing.edit { StreamEncoder.appendSectionEnd(id: SourceSide.section, to: &$0) }
        }
    }
}
