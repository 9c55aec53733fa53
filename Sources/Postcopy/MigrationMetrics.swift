public import CoreMetrics
internal import LinuxKernel
public import MigrationCore
public import PageModel
public import PostcopyRuntime

/// A recorder that takes waits which are counted already. A backend's may be one; others are told each
/// wait by itself, as the middle of its bucket.
public protocol WaitRecorder: RecorderHandler {
    /// Adds waits and the sum of their lengths.
    func record(_ waits: LatencyBuckets, totalNanoseconds: UInt64)
}

/// Tells a metrics backend how one side of a migration goes; see `MigrationMetric`.
///
/// Migrations do this by themselves where a backend is bootstrapped when they begin: ten times a second,
/// on a thread of its own (`pc-watch`). Make one for figures that come from elsewhere, from another process
/// for example. Any thread may tell it; what only grows never falls, whatever the order.
public final class MigrationMetrics: Sendable {
    /// Which side is told about.
    public enum Side: String, Sendable {
        /// Where the guest comes from.
        case source
        /// Where it goes.
        case destination
    }

    private let maker: MetricMaker
    private let pageBytes: UInt64
    private let moved: FollowedTotal
    private let pages: PageMetrics
    private let requests: FollowedTotal
    private let link: LinkMetrics
    private let phase: PhaseMetrics
    private let remaining: any RecorderHandler
    private let waits: WaitMetrics?

    /// - Parameters:
    ///   - side: which one is told about.
    ///   - pageBytes: how large the pages are that are counted as missing at a destination: host pages.
    ///   - factory: the backend; by default the one that the program has bootstrapped.
    public init(
        side: Side, pageBytes: UInt64 = PageSize.target.bytes,
        factory: any MetricsFactory = MetricsSystem.factory
    ) {
        let maker = MetricMaker(side: side, factory: factory)
        self.maker = maker
        self.pageBytes = side == .source ? PageSize.target.bytes : pageBytes
        moved = maker.total(side == .source ? .sentBytes : .receivedBytes)
        pages = PageMetrics(maker)
        requests = maker.total(.requests)
        link = LinkMetrics(maker)
        phase = PhaseMetrics(maker)
        remaining = maker.gauge(.remainingBytes)
        waits = side == .destination ? WaitMetrics(maker) : nil
    }

    /// For a migration of this process; `nil` where nobody has bootstrapped a backend.
    static func ofProcess(side: Side, memory: [GuestRAM]) -> MigrationMetrics? {
        let factory = MetricsSystem.factory
        guard !(factory is NOOPMetricsHandler) else { return nil }
        return MigrationMetrics(
            side: side, pageBytes: memory.meanPageBytes, factory: factory)
    }

    // MARK: Telling

    /// Tells how far a source is.
    public func tell(_ progress: SourceProgress) {
        phase.tell(progress.status)
        moved.follow(progress.sentBytes.total)
        pages.tell(progress)
        requests.follow(progress.requests)
        link.tell(progress.recovery, in: progress.status)
        remaining.record(bytes(progress.remainingPages))
        guard let precopy = progress.precopy else { return }
        maker.gauge(.dirtyRate).record(bytes(Int(clamping: precopy.dirtyPagesPerSecond)))
    }

    /// Tells how far a destination is.
    public func tell(_ progress: DestinationProgress) {
        phase.tell(progress.status)
        moved.follow(progress.receivedBytes)
        pages.tell(progress)
        requests.follow(progress.requests)
        link.tell(progress.recovery, in: progress.status)
        remaining.record(bytes(progress.missingHostPages))
        waits?.tell(progress)
    }

    /// Tells how a source ended.
    public func tell(_ report: SourceReport) {
        var progress = report.progress
        progress.status = report.status
        tell(progress)
        if let downtime = report.downtimeNanoseconds { tell(downtimeNanoseconds: downtime) }
    }

    /// Tells how a destination ended.
    public func tell(_ report: DestinationReport) {
        var progress = report.progress
        progress.status = report.status
        tell(progress)
        tell(blocktimeNanoseconds: report.blocktime?.vcpuNanoseconds ?? [])
    }

    /// Tells how long the guest stopped.
    public func tell(downtimeNanoseconds: UInt64) {
        maker.gauge(.downtime).record(Double(downtimeNanoseconds) / 1e9)
    }

    /// Tells, once, how long each vCPU waited for pages in all.
    public func tell(blocktimeNanoseconds: [UInt64]) { waits?.tell(blocktimeNanoseconds) }

    private func bytes(_ pages: Int) -> Int64 {
        Int64(clamping: UInt64(clamping: pages).multipliedFullWidth(by: pageBytes).low)
    }
}

extension [GuestRAM] {
    /// Of a host page, on average where blocks differ.
    package var meanPageBytes: UInt64 {
        let pages = reduce(0) { $0 + UInt64($1.geometry.hostPageCount) }
        return reduce(0) { $0 + $1.geometry.lengthBytes } / Swift.max(1, pages)
    }
}
