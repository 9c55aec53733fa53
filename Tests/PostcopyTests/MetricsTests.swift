import CoreMetrics
import Postcopy
import Synchronization
import TestSupport
import Testing

/// What a metrics backend hears of a migration.
@Suite(.timeLimit(.minutes(2))) struct MetricsTests {
    @Test("what only grows never falls, whatever the order in which it is told")
    func growth() {
        let backend = NotingBackend()
        let metrics = MigrationMetrics(side: .source, factory: backend)
        var progress = SourceProgress()
        for sent in [10, 30, 20, 30, 31] as [UInt64] {
            progress.sentBytes.precopy = sent
            progress.requests = sent / 10
            metrics.tell(progress)
        }
        #expect(backend.value(of: .sentBytes, ["side": "source"]) == 31)
        #expect(backend.value(of: .requests, ["side": "source"]) == 3)
        #expect(backend.hasFallen.load(ordering: .relaxed) == false)
    }

    @Test("what is left of a total is not said too early, and exact at the end")
    func rest() {
        let backend = NotingBackend()
        let metrics = MigrationMetrics(side: .destination, factory: backend)
        var progress = DestinationProgress()
        progress.status = .postcopyActive
        progress.urgentPages = 5
        progress.backgroundPages = 10
        // The two zero pages among them are not counted yet.
        metrics.tell(progress)
        progress.zeroPages = 2
        metrics.tell(progress)
        let content = ["side": "destination", "kind": "content"]
        #expect(backend.value(of: .pages, content) == 13)
        progress.backgroundPages = 20
        progress.zeroPages = 4
        progress.status = .completed
        metrics.tell(progress)
        #expect(backend.value(of: .pages, content) == 21)
    }

    @Test("of all phases there is one")
    func phase() {
        let backend = NotingBackend()
        let metrics = MigrationMetrics(side: .source, factory: backend)
        for status in MigrationStatus.allCases {
            var progress = SourceProgress()
            progress.status = status
            metrics.tell(progress)
            for other in MigrationStatus.allCases {
                let labels = ["side": "source", "phase": other.rawValue]
                #expect(backend.value(of: .phase, labels) == (other == status ? 1 : 0))
            }
        }
    }

    @Test("each wait is told once, as long as its bucket says")
    func waits() {
        let backend = NotingBackend()
        let metrics = MigrationMetrics(side: .destination, factory: backend)
        var progress = DestinationProgress()
        for _ in 0..<3 {
            for microseconds in [1, 5, 100] as [UInt64] {
                progress.latency.record(nanoseconds: microseconds * 1_000)
            }
            metrics.tell(progress)
            metrics.tell(progress)
        }
        let told = backend.records.withLock { $0 }.sorted()
        #expect(told == [1.5e-6, 6e-6, 96e-6].flatMap { [$0, $0, $0] })
    }

    @Test("a broken link that is back counts as one that came back")
    func links() {
        let backend = NotingBackend()
        let metrics = MigrationMetrics(side: .source, factory: backend)
        var progress = SourceProgress()
        progress.recovery.breakCount = 2
        progress.status = .postcopyPaused
        metrics.tell(progress)
        #expect(backend.value(of: .linkBreaks, ["side": "source"]) == 2)
        #expect(backend.value(of: .linkRecoveries, ["side": "source"]) == 1)
        progress.status = .postcopyActive
        metrics.tell(progress)
        #expect(backend.value(of: .linkRecoveries, ["side": "source"]) == 2)
    }

    @Test("a report tells the rest: downtime at the source, blocktime at the destination")
    func reports() throws {
        let backend = NotingBackend()
        let ends = try TwoEnds()
        ends.source.startPostcopy()
        try ends.start()
        let report = try ends.source.wait()
        MigrationMetrics(side: .source, factory: backend).tell(report)
        MigrationMetrics(side: .destination, pageBytes: 4096, factory: backend)
            .tell(blocktimeNanoseconds: [1_500_000_000, 0])
        try ends.expectMoved()
        let downtime = try #require(report.downtimeNanoseconds)
        #expect(backend.value(of: .downtime, ["side": "source"]) == Double(downtime) / 1e9)
        #expect(
            backend.value(of: .sentBytes, ["side": "source"])
                == Double(report.progress.sentBytes.total))
        #expect(
            backend.value(of: .blocktime, ["side": "destination", "vcpu": "0"]) == 1.5)
    }
}

/// Adds up what it is told.
private final class NotingBackend: MetricsFactory, Sendable {
    let values = Mutex<[String: Double]>([:])
    let records = Mutex<[Double]>([])
    let hasFallen = Atomic(false)

    func value(of metric: MigrationMetric, _ labels: [String: String]) -> Double? {
        values.withLock { $0[Self.key(metric.rawValue, labels.map { ($0, $1) })] }
    }

    static func key(_ label: String, _ dimensions: [(String, String)]) -> String {
        ([label] + dimensions.map { "\($0)=\($1)" }.sorted()).joined(separator: " ")
    }

    private func noted(_ label: String, _ dimensions: [(String, String)]) -> Noted {
        Noted(key: Self.key(label, dimensions), isDistribution: false, backend: self)
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        noted(label, dimensions)
    }

    func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        noted(label, dimensions)
    }

    func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        NOOPMetricsHandler.instance
    }

    func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        Noted(key: Self.key(label, dimensions), isDistribution: aggregate, backend: self)
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        NOOPMetricsHandler.instance
    }

    func destroyCounter(_ handler: any CounterHandler) {}
    func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    func destroyMeter(_ handler: any MeterHandler) {}
    func destroyRecorder(_ handler: any RecorderHandler) {}
    func destroyTimer(_ handler: any TimerHandler) {}
}

private final class Noted: CounterHandler, FloatingPointCounterHandler, RecorderHandler {
    private let key: String
    private let isDistribution: Bool
    private let backend: NotingBackend

    init(key: String, isDistribution: Bool, backend: NotingBackend) {
        self.key = key
        self.isDistribution = isDistribution
        self.backend = backend
    }

    func increment(by amount: Int64) { increment(by: Double(amount)) }

    func increment(by amount: Double) {
        if amount < 0 { backend.hasFallen.store(true, ordering: .relaxed) }
        backend.values.withLock { $0[key, default: 0] += amount }
    }

    func reset() {}

    func record(_ value: Int64) { record(Double(value)) }

    func record(_ value: Double) {
        if isDistribution {
            backend.records.withLock { $0.append(value) }
        } else {
            backend.values.withLock { $0[key] = value }
        }
    }
}
