internal import CoreMetrics
internal import MigrationCore
internal import PostcopyRuntime
internal import Synchronization

/// Makes the metrics of one side.
struct MetricMaker: Sendable {
    let side: MigrationMetrics.Side
    let factory: any MetricsFactory

    func total(_ metric: MigrationMetric, _ own: (String, String)...) -> FollowedTotal {
        FollowedTotal(factory.makeCounter(label: metric.rawValue, dimensions: dimensions(own)))
    }

    func gauge(_ metric: MigrationMetric, _ own: (String, String)...) -> any RecorderHandler {
        factory.makeRecorder(
            label: metric.rawValue, dimensions: dimensions(own), aggregate: false)
    }

    func distribution(_ metric: MigrationMetric) -> any RecorderHandler {
        factory.makeRecorder(label: metric.rawValue, dimensions: dimensions([]), aggregate: true)
    }

    func seconds(
        _ metric: MigrationMetric, _ own: (String, String)
    ) -> any FloatingPointCounterHandler {
        factory.makeFloatingPointCounter(label: metric.rawValue, dimensions: dimensions([own]))
    }

    private func dimensions(_ own: [(String, String)]) -> [(String, String)] {
        [("side", side.rawValue)] + own
    }
}

/// A number that grows, of which only the growth is wanted.
final class GrowingTotal: Sendable {
    /// Relaxed: a number by itself.
    private let largest = Atomic<UInt64>(0)

    /// How much more `total` is than all that was ever said; 0 for less.
    func growth(to total: UInt64) -> UInt64 {
        let before = largest.max(total, ordering: .relaxed).oldValue
        return total - min(total, before)
    }
}

/// A counter that follows a total which is counted elsewhere.
struct FollowedTotal: Sendable {
    private let counter: any CounterHandler
    private let total = GrowingTotal()

    init(_ counter: any CounterHandler) { self.counter = counter }

    func follow(_ value: UInt64) {
        let growth = total.growth(to: value)
        if growth > 0 { counter.increment(by: Int64(clamping: growth)) }
    }
}

/// A counter that follows what is left of a total behind a part of it. The two are counted one after the
/// other, and nothing that was said can be taken back: so it stays one look behind, until all is over.
final class FollowedRest: Sendable {
    private let counter: FollowedTotal
    /// Relaxed: an older total is one that was true.
    private let before = Atomic<UInt64>(0)

    init(_ counter: FollowedTotal) { self.counter = counter }

    func follow(_ total: UInt64, without part: UInt64, isFinal: Bool) {
        let earlier = before.exchange(total, ordering: .relaxed)
        let sure = isFinal ? total : min(earlier, total)
        counter.follow(sure - min(sure, part))
    }
}

/// Pages by what they hold, and by whether somebody waited for them.
struct PageMetrics: Sendable {
    private let content: FollowedTotal
    /// The same, for a side that counts all pages and zeros.
    private let rest: FollowedRest
    private let zero: FollowedTotal
    private let background: FollowedRest
    private let urgent: FollowedTotal

    init(_ maker: MetricMaker) {
        content = maker.total(.pages, ("kind", "content"))
        rest = FollowedRest(content)
        zero = maker.total(.pages, ("kind", "zero"))
        background = FollowedRest(maker.total(.channelPages, ("channel", "background")))
        urgent = maker.total(.channelPages, ("channel", "urgent"))
    }

    func tell(_ source: SourceProgress) {
        content.follow(source.normalPages)
        zero.follow(source.zeroPages)
        urgent.follow(source.urgentPages)
        background.follow(
            source.normalPages + source.zeroPages, without: source.urgentPages,
            isFinal: source.status == .completed)
    }

    func tell(_ destination: DestinationProgress) {
        let all = destination.backgroundPages + destination.urgentPages
        let isFinal = destination.status == .completed
        zero.follow(destination.zeroPages)
        rest.follow(all, without: destination.zeroPages, isFinal: isFinal)
        urgent.follow(destination.urgentPages)
        background.follow(all, without: destination.urgentPages, isFinal: isFinal)
    }
}

/// The status that a side is in.
struct PhaseMetrics: Sendable {
    private let gauges: [(status: MigrationStatus, gauge: any RecorderHandler)]

    init(_ maker: MetricMaker) {
        gauges = MigrationStatus.allCases.map {
            ($0, maker.gauge(.phase, ("phase", $0.rawValue)))
        }
        tell(.none)
    }

    func tell(_ status: MigrationStatus) {
        for (other, gauge) in gauges { gauge.record(Int64(other == status ? 1 : 0)) }
    }
}

/// Links that broke and came back.
struct LinkMetrics: Sendable {
    private let breaks: FollowedTotal
    private let recoveries: FollowedTotal

    init(_ maker: MetricMaker) {
        breaks = maker.total(.linkBreaks)
        recoveries = maker.total(.linkRecoveries)
    }

    func tell(_ recovery: RecoveryProgress, in status: MigrationStatus) {
        let count = UInt64(clamping: recovery.breakCount)
        breaks.follow(count)
        // Only the last one can be down; one that is told from afar comes without its particulars.
        let isDown =
            recovery.breaks.last.map { $0.resumedAtNanoseconds == nil }
            ?? (status == .postcopyPaused || status == .postcopyRecover)
        recoveries.follow(count - min(count, isDown ? 1 : 0))
    }
}

/// What vCPUs and other threads waited for pages.
final class WaitMetrics: Sendable {
    private let maker: MetricMaker
    private let faults: FollowedTotal
    private let blocked: any RecorderHandler
    private let latency: any RecorderHandler
    private let buckets = (0..<LatencyBuckets.bucketCount).map { _ in GrowingTotal() }
    private let waited = GrowingTotal()
    /// Relaxed: who is first adds them.
    private let isBlocktimeTold = Atomic(false)

    init(_ maker: MetricMaker) {
        self.maker = maker
        faults = maker.total(.faults)
        blocked = maker.gauge(.blockedVCPUs)
        latency = maker.distribution(.faultLatency)
        blocked.record(Int64(0))
    }

    func tell(_ progress: DestinationProgress) {
        faults.follow(progress.faults)
        blocked.record(Int64(progress.waitingVCPUs))
        let fresh = LatencyBuckets(
            counts: zip(buckets, progress.latency.counts).map { $0.growth(to: $1) })
        guard fresh.total > 0 else { return }
        let nanoseconds = waited.growth(to: progress.waitedNanoseconds)
        if let latency = latency as? any WaitRecorder {
            return latency.record(fresh, totalNanoseconds: nanoseconds)
        }
        for (bucket, count) in fresh.counts.enumerated() {
            // The middle of 2^n to 2^(n+1) us.
            let seconds = 1.5e-6 * Double(UInt64(1) << UInt64(bucket))
            for _ in 0..<count { latency.record(seconds) }
        }
    }

    func tell(_ blocktimeNanoseconds: [UInt64]) {
        guard !blocktimeNanoseconds.isEmpty,
            !isBlocktimeTold.exchange(true, ordering: .relaxed)
        else { return }
        for (vcpu, nanoseconds) in blocktimeNanoseconds.enumerated() {
            let counter = maker.seconds(.blocktime, ("vcpu", "\(vcpu)"))
            counter.increment(by: Double(nanoseconds) / 1e9)
        }
    }
}
