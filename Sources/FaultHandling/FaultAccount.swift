internal import MigrationCore
internal import PageModel

/// What a handler counts, guarded by one lock.
struct FaultAccount: ~Copyable {
    var progress = FaultProgress()
    /// What the provider or the kernel last answered where nobody waited.
    var backgroundProblem: String?
    /// What became of pages that were missing at the end.
    var missingAtStop: LostPage.Outcome?
    private var blocktime = Blocktime(vcpuThreads: [])
    private var latency = LatencyAccount()
    /// Pages that somebody waits for, and since when.
    private var open: [HostPage: UInt64] = [:]
    private var trace: [HostPage] = []
    /// By block, the pages in `trace`.
    private let traced: [PageBitmap]
    private var lost: [LostPage] = []
    /// A screen or two: they are counted as well.
    private static let lostMax = 64

    init(_ blocks: [BlockGeometry]) {
        traced = blocks.map { PageBitmap(pageCount: $0.hostPageCount, allSet: false) }
    }

    /// Notes that a thread waits for a page.
    mutating func begin(_ page: HostPage, thread: Int32, at now: UInt64) {
        blocktime.begin(thread: thread, page: page, at: now)
        if open[page] == nil { open[page] = now }
        if traced[page.block.rawValue].insert(page.page.rawValue) { trace.append(page) }
    }

    /// Notes that whoever waited for a page goes on.
    mutating func close(_ page: HostPage, at now: UInt64) {
        guard let since = open.removeValue(forKey: page) else { return }
        latency.record(now > since ? now - since : 0)
        blocktime.placed(page: page, at: now)
    }

    /// The same for each of these.
    mutating func close(_ pages: Range<HostPageIndex>, of block: BlockIndex, at now: UInt64) {
        guard !open.isEmpty else { return }
        for page in pages.lowerBound.rawValue..<pages.upperBound.rawValue {
            close(HostPage(block: block, page: HostPageIndex(rawValue: page)), at: now)
        }
    }

    mutating func lose(_ page: LostPage, at now: UInt64) {
        progress.lostPages += 1
        if lost.count < Self.lostMax { lost.append(page) }
        if let page = page.page, !open.isEmpty { close(page, at: now) }
    }

    /// The whole account; whoever still waited goes on at `now`.
    mutating func finish(_ blocks: [BlockGeometry], at now: UInt64) -> FaultReport {
        var error: FaultHandlerError?
        if case .ended(let reason) = progress.state { error = reason }
        return FaultReport(
            progress: progress, blocktime: blocktime.finish(at: now), latency: latency.summary,
            trace: FaultTrace(checked: blocks, pages: trace), lost: lost,
            missingAtStop: missingAtStop, backgroundProblem: backgroundProblem, error: error)
    }
}
