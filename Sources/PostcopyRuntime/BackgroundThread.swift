internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// The source's background sender: every page owed, in order from the last one requested, and the
/// requested ones first when there is no urgent channel.
struct BackgroundThread: ~Copyable {
    private let state: SourceState
    private let link: SourceLink
    private var writer: PageWriter
    private var block = 0
    private var page = 0
    private var sectionBytes = 0
    private var isInSection = false

    /// A section ends after this much, as QEMU ends one about every 50 ms: a reader of the stream
    /// finds its place again at sections.
    private static let sectionBytesMax = 16 << 20
    /// Without an urgent channel a request waits for the write under way: 64 KiB keep that short.
    private static let pagesMaxWithoutUrgent = 16

    init(state: SourceState, link: SourceLink) {
        self.state = state
        self.link = link
        writer = PageWriter(state: state)
    }

    /// Sends until nothing is owed, and reports so, or what stopped it.
    mutating func run() {
        preferShortSlices()
        do throws(Errno) {
            while !state.stopsSending.load(ordering: .acquiring) {
                guard try sendSome() else {
                    try endSection()
                    return state.report(.allPagesSent)
                }
            }
        } catch {
            state.report(
                .linkLost,
                problem: error == .again
                    ? "the destination took nothing for too long"
                    : "the link to the destination failed: \(error)")
        }
    }

    /// Sends one write's worth; `false` when nothing is owed any more.
    private mutating func sendSome() throws(Errno) -> Bool {
        if !link.hasUrgent, try sendRequested() { return true }
        if let hint = state.scanHint.take() {
            block = hint.block.rawValue
            page = state.geometries[block].targetPages(of: hint.page).upperBound
        }
        let pagesMax = link.hasUrgent ? ChannelTuning.backgroundPages : Self.pagesMaxWithoutUrgent
        var count = 0
        while count < pagesMax, let run = claimNext(countMax: pagesMax - count) {
            beginSection()
            if run.count > writer.room {
                try writer.write(hostPage(startingAt: run.lowerBound), to: link.main)
            } else {
                writer.append(run, of: BlockIndex(rawValue: block))
            }
            page = run.upperBound
            count += run.count
        }
        sectionBytes += count * Int(PageSize.target.bytes)
        if sectionBytes >= Self.sectionBytesMax { try endSection() }
        try writer.flush(to: link.main)
        return count > 0
    }

    private mutating func sendRequested() throws(Errno) -> Bool {
        guard let requested = state.queue.withLock({ $0.pop() }) else { return false }
        state.scanHint.leave(requested)
        guard state.claim(requested) else { return true }
        let targetPages = state.geometries[requested.block.rawValue].hostPage.targetPages
        state.counters.urgentPages.add(UInt64(targetPages), ordering: .relaxed)
        beginSection()
        try writer.write(requested, to: link.main)
        try writer.flush(to: link.main)
        return true
    }

    /// The next pages owed, searched from where this sender stands once around all blocks.
    private mutating func claimNext(countMax: Int) -> Range<Int>? {
        for _ in 0...state.dirty.count {
            if let run = state.dirty[block].claimNext(from: page, countMax: countMax) {
                state.counters.remainingPages.subtract(run.count, ordering: .relaxed)
                return run
            }
            block = (block + 1) % state.dirty.count
            page = 0
        }
        return nil
    }

    private func hostPage(startingAt targetPage: Int) -> HostPage {
        let count = state.geometries[block].hostPage.targetPages
        return HostPage(
            block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: targetPage / count))
    }

    private mutating func beginSection() {
        guard !isInSection else { return }
        isInSection = true
        writer.append {
            StreamEncoder.appendSectionResumed(id: SourceLink.ramSection, last: false, to: &$0)
        }
    }

    private mutating func endSection() throws(Errno) {
        guard isInSection else { return }
        isInSection = false
        sectionBytes = 0
        writer.append { StreamEncoder.appendSectionEnd(id: SourceLink.ramSection, to: &$0) }
        try writer.flush(to: link.main)
    }
}
