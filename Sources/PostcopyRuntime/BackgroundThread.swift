internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// The source's background sender: every page owed, in order from the last one requested, and the
/// requested ones first when there is no urgent channel.
struct BackgroundThread: ~Copyable {
    private let state: SourceState
    private let link: SourceLink
    private var writer: SectionWriter
    private var block = 0
    private var page = 0

    /// Without an urgent channel a request waits for the write under way: 64 KiB keep that short.
    private static let pagesMaxWithoutUrgent = 16

    init(state: SourceState, link: SourceLink) {
        self.state = state
        self.link = link
        writer = SectionWriter(state: state, link: link)
    }

    /// Sends until nothing is owed, and reports so, or what stopped it.
    mutating func run() {
        preferShortSlices()
        do throws(Errno) {
            while !state.stopsSending.load(ordering: .acquiring) {
                guard try sendSome() else {
                    try writer.end()
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
            if run.count > writer.room {
                try writer.write(hostPage(startingAt: run.lowerBound))
            } else {
                writer.append(run, of: BlockIndex(rawValue: block))
            }
            page = run.upperBound
            count += run.count
        }
        try writer.flush()
        return count > 0
    }

    private mutating func sendRequested() throws(Errno) -> Bool {
        guard let requested = state.queue.withLock({ $0.pop() }) else { return false }
        state.scanHint.leave(requested)
        guard state.claim(requested) else { return true }
        let targetPages = state.geometries[requested.block.rawValue].hostPage.targetPages
        state.counters.urgentPages.add(UInt64(targetPages), ordering: .relaxed)
        try writer.write(requested)
        try writer.flush()
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
}
