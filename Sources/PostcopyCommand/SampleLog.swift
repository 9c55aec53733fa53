internal import Postcopy
internal import Synchronization

/// Where a migration stood as it went on: so many instants at most, however long it takes.
struct SampleLog {
    private(set) var samples: [SampleFigures] = []
    private var intervalNanoseconds: UInt64
    private let countMax: Int
    private var isEnded = false

    /// What a page shows in one curve, a few pixels to each.
    static let countMax = 600
    /// An hour: no migration of days needs more, and breaks without end do not make it endless.
    private static let intervalNanosecondsMax: UInt64 = 3_600_000_000_000

    /// - Parameter countMax: at least 2.
    init(countMax: Int = Self.countMax, intervalNanoseconds: UInt64) {
        self.countMax = countMax
        self.intervalNanoseconds = intervalNanoseconds
    }

    /// Keeps it where enough time has passed, or the status is a new one.
    mutating func note(_ sample: SampleFigures) {
        guard !isEnded else { return }
        guard let last = samples.last else { return samples.append(sample) }
        guard sample.atNs >= last.atNs else { return }
        if sample.status == last.status {
            // A destination may wait for its source for days.
            guard sample.status != MigrationStatus.none.rawValue,
                sample.atNs - last.atNs >= intervalNanoseconds
            else { return }
        }
        append(sample)
    }

    /// Keeps it in any case, and none behind it.
    mutating func end(with sample: SampleFigures) {
        var sample = sample
        isEnded = true
        sample.atNs = max(sample.atNs, samples.last?.atNs ?? 0)
        if samples.last?.status == sample.status { samples.removeLast() }
        append(sample)
    }

    private mutating func append(_ sample: SampleFigures) {
        if samples.count >= countMax { thin() }
        samples.append(sample)
    }

    /// Every second one goes, but for the first of a status as long as those are few: a link may break
    /// without end.
    private mutating func thin() {
        intervalNanoseconds = min(2 * intervalNanoseconds, Self.intervalNanosecondsMax)
        var kept = samples.indices.filter { index in
            index % 2 == 0 || samples[index].status != samples[index - 1].status
        }
        if kept.count > countMax * 3 / 4 { kept = samples.indices.filter { $0 % 2 == 0 } }
        samples = kept.map { samples[$0] }
    }

    /// Both sides of one host's, in the order in which they were.
    static func joined(_ one: [SampleFigures]?, _ other: [SampleFigures]?) -> [SampleFigures]? {
        guard let one, let other else { return one ?? other }
        return (one + other).enumerated()
            .sorted { ($0.element.atNs, $0.offset) < ($1.element.atNs, $1.offset) }
            .map(\.element)
    }
}

/// Keeps samples of what it is told, from any thread.
final class SampleRecorder: Sendable {
    private let log: Mutex<SampleLog>

    /// A migration of a few hundred milliseconds is a curve as well; a look costs microseconds.
    static let intervalNanoseconds: UInt64 = 20_000_000

    /// - Parameter isShared: whether the other side's samples are put into the same report.
    init(isShared: Bool) {
        log = Mutex(
            SampleLog(
                countMax: SampleLog.countMax / (isShared ? 2 : 1),
                intervalNanoseconds: Self.intervalNanoseconds))
    }

    var samples: [SampleFigures]? {
        let samples = log.withLock { $0.samples }
        return samples.isEmpty ? nil : samples
    }

    /// Keeps what a migration tells from now on, and at once where it stands.
    /// - Throws: when the process may have no more threads or descriptors.
    func observe(_ migration: MigrationSource) throws(Errno) -> MigrationObservation {
        note(SampleFigures(migration.progress, atNs: Monotonic.now()))
        return try migration.observe(everyNanoseconds: Self.intervalNanoseconds) { [self] in
            note(SampleFigures($0, atNs: Monotonic.now()))
        }
    }

    /// - Parameter pageBytes: of a host page.
    /// - Throws: when the process may have no more threads or descriptors.
    func observe(
        _ migration: MigrationDestination, pageBytes: UInt64
    ) throws(Errno) -> MigrationObservation {
        note(SampleFigures(migration.progress, pageBytes: pageBytes, atNs: Monotonic.now()))
        return try migration.observe(everyNanoseconds: Self.intervalNanoseconds) { [self] in
            note(SampleFigures($0, pageBytes: pageBytes, atNs: Monotonic.now()))
        }
    }

    func note(_ sample: SampleFigures) { log.withLock { $0.note(sample) } }

    func end(_ report: SourceReport) {
        var sample = SampleFigures(report.progress, atNs: report.endedAtNanoseconds)
        sample.status = report.status.rawValue
        log.withLock { [sample] in $0.end(with: sample) }
    }

    func end(_ report: DestinationReport, pageBytes: UInt64) {
        var sample = SampleFigures(
            report.progress, pageBytes: pageBytes, atNs: report.endedAtNanoseconds)
        sample.status = report.status.rawValue
        log.withLock { [sample] in $0.end(with: sample) }
    }
}

extension SampleFigures {
    init(_ progress: SourceProgress, atNs: UInt64) {
        self.init(
            atNs: atNs, status: progress.status.rawValue, sentBytes: progress.sentBytes.total,
            remainingBytes: UInt64(progress.remainingPages) * PageSize.target.bytes,
            requests: progress.requests)
    }

    /// - Parameter pageBytes: of a host page.
    init(_ progress: DestinationProgress, pageBytes: UInt64, atNs: UInt64) {
        self.init(
            atNs: atNs, status: progress.status.rawValue, receivedBytes: progress.receivedBytes,
            remainingBytes: UInt64(progress.missingHostPages) * pageBytes,
            requests: progress.requests, waitingVcpus: progress.waitingVCPUs)
    }
}
