internal import FlightRecorder
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
    private var writer: SectionWriter
    private var cursor = SendCursor()
    private var recorder: ServiceRecorder

    /// Without an urgent channel a request waits for the write under way: 64 KiB keep that short.
    private static let pagesMaxWithoutUrgent = 16

    init(state: SourceState, link: SourceLink) {
        self.state = state
        self.link = link
        writer = SectionWriter(state: state, link: link)
        recorder = ServiceRecorder(isOn: state.options.recordsFaults)
    }

    /// Sends until nothing is owed, and reports so, or what stopped it.
    mutating func run() {
        preferShortSlices()
        defer { recorder.leave(to: state.services) }
        do throws(Errno) {
            while !state.stopsSending.load(ordering: .acquiring) {
                guard try sendSome() else {
                    try writer.end()
                    return reportEnd()
                }
            }
        } catch {
            state.report(
                .linkLost,
                problem: error == .again
                    ? "the destination took nothing for too long"
                    : "the link to the destination failed: \(error)", of: link)
        }
    }

    private func reportEnd() {
        // A page that was just claimed on the other channel is counted in a moment.
        if state.passage?.isEnded == true { state.pace.rest(nanoseconds: state.pingNanoseconds) }
        let owed = state.owed.remaining.load(ordering: .relaxed)
        guard owed > 0, state.passage?.isEnded == true else {
            return state.report(.allPagesSent, of: link)
        }
        state.report(
            .linkLost, problem: "\(owed) pages never came from the host that the guest left",
            of: link)
    }

    /// Sends one write's worth; `false` when nothing is owed any more.
    private mutating func sendSome() throws(Errno) -> Bool {
        if !link.hasUrgent, try sendRequested() { return true }
        guard let pagesMax = try awaitTurn() else { return true }
        if let hint = state.scanHint.take() {
            cursor.goOn(behind: hint, of: state.geometries[hint.block.rawValue])
        }
        var count = 0
        while count < pagesMax,
            let (block, run) = state.owed.claimNext(from: &cursor, countMax: pagesMax - count)
        {
            if run.count > writer.room {
                try writeInTurns(hostPage(of: block, startingAt: run.lowerBound))
            } else {
                writer.append(run, of: block)
            }
            count += run.count
        }
        try writer.flush()
        state.pace.noteSent(writer.takeWrittenBytes())
        if count > 0 { return true }
        return try awaitArrival()
    }

    /// Waits for pages that are not here yet; `false` when none is owed or none will come.
    private mutating func awaitArrival() throws(Errno) -> Bool {
        guard let passage = state.passage,
            state.owed.remaining.load(ordering: .relaxed) > 0
        else { return false }
        if passage.isEnded { return passage.hasSendable }
        if !passage.awaitArrival(nanosecondsMax: state.pingNanoseconds) { try ping() }
        return true
    }

    /// Waits for as long as the limit says; answers how many pages may be written, or `nil` when
    /// something else comes first.
    private mutating func awaitTurn() throws(Errno) -> Int? {
        let most = link.hasUrgent ? ChannelTuning.backgroundPages : Self.pagesMaxWithoutUrgent
        // That nothing is owed is told at once.
        guard state.owed.remaining.load(ordering: .relaxed) > 0 else { return most }
        switch state.pace.awaitTurn(nanosecondsMax: state.pingNanoseconds) {
        case .write(let bytesMax): return min(most, max(1, bytesMax / Int(PageSize.target.bytes)))
        case .woken: return nil
        case .early:
            try ping()
            return nil
        }
    }

    /// Writes a page that is larger than one write. It arrives whole or not at all, so that whoever
    /// wakes this sender waits for the rest of it: then that is not held back.
    private mutating func writeInTurns(_ page: HostPage) throws(Errno) {
        let state = state
        var isAwaited = false
        state.inPieces.leave(page)
        defer { state.inPieces.clear() }
        try writer.write(page) { bytes in
            state.pace.noteSent(bytes)
            guard !isAwaited else { return }
            let turn = state.pace.awaitTurn(nanosecondsMax: state.pingNanoseconds)
            isAwaited = turn == .woken
        }
    }

    /// Shows the destination that a source lives which its limit keeps silent.
    private mutating func ping() throws(Errno) {
        try writer.send(.ping(PingValue.returnPathOpened.rawValue))
    }

    private mutating func sendRequested() throws(Errno) -> Bool {
        guard let (requested, askedAt) = state.queue.withLock({ $0.popWithInstant() }) else {
            return false
        }
        state.scanHint.leave(requested)
        guard state.claim(requested) else {
            recorder.note(
                requested, [.alreadySent, .behindBackground], receivedAt: askedAt, ahead: 0)
            return true
        }
        recorder.take(requested, .behindBackground, receivedAt: askedAt)
        let targetPages = state.geometries[requested.block.rawValue].hostPage.targetPages
        state.counters.urgentPages.add(UInt64(targetPages), ordering: .relaxed)
        try writer.write(requested)
        try writer.flush()
        recorder.noteWritten()
        state.noteUrgent(bytes: writer.takeWrittenBytes())
        return true
    }

    private func hostPage(of block: BlockIndex, startingAt targetPage: Int) -> HostPage {
        let count = state.geometries[block.rawValue].hostPage.targetPages
        return HostPage(block: block, page: HostPageIndex(rawValue: targetPage / count))
    }
}
