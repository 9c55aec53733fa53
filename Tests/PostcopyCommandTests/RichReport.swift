import Postcopy
import TestSupport

@testable import PostcopyCommand

/// A report of a run in which everything happened, made up from a seed: breaks of the link, vCPUs,
/// other threads, samples, a map, waits with causes, and names that would be markup.
struct RichReport {
    private var random: SeededRandom
    private let vcpus: Int
    private let breaks: Int

    private static let startNs: UInt64 = 5_000_000_000
    private static let stoppedNs: UInt64 = 5_900_000_000
    private static let runningNs: UInt64 = 5_931_000_000
    private static let endNs: UInt64 = 9_400_000_000

    /// What a name may hold that a page must not take for its own.
    static let markup = "<img src=x onerror=alert(1)>&\"'\u{202E}\u{0}"

    init(seed: UInt64, vcpus: Int = 4, breaks: Int = 2) {
        random = SeededRandom(seed: seed)
        self.vcpus = vcpus
        self.breaks = breaks
    }

    mutating func document() -> ReportDocument {
        var report = fullReport()
        report.errorDesc = nil
        report.missing = nil
        report.vcpusInLostMemory = nil
        report.cuts = nil
        report.cutsAsked = nil
        report.totalTimeNs = Self.endNs - Self.startNs
        report.downtimeNs = Self.runningNs - Self.stoppedNs
        report.ram = RAMFigures(
            total: 4 << 30, pageSize: 4096, normal: 900_000, duplicate: 120_000,
            transferred: 4_100 << 20, remaining: 0, precopyBytes: 2 << 30, downtimeBytes: 300_000,
            postcopyBytes: 2_000 << 20, postcopyRequests: 48_000, urgentPages: 48_000,
            backgroundPages: 460_000)
        report.channels = ChannelFigures(
            uri: "tcp:127.0.0.1:49152", transport: "tcp", preempt: true, proxy: nil)
        report.machine = MachineFigures(
            cpus: 2, kernel: "6.18 \(Self.markup)", loadAverage: [6.5, 4, 2])
        report.switchover = SwitchoverFigures(
            rule: "rounds", ending: "postcopy", reason: "1 round of 1; the rest is too much",
            atNs: 880_000_000, remainingBytes: 2_000 << 20, owedBytes: 1_990 << 20,
            bandwidthBytesPerSecond: 1_200 << 20, dirtyBytesPerSecond: 700 << 20,
            finalSyncNs: 2_100_000)
        report.rounds = [
            RoundFigures(
                number: 1, durationNs: 860_000_000, pages: 1_048_576, bytes: 4 << 30,
                dirtied: 512_000)
        ]
        addSides(to: &report)
        addWaits(to: &report)
        report.samples = samples()
        report.flight = flight()
        return report
    }

    // MARK: Sides

    private func downs() -> [ClosedRange<UInt64>] {
        (0..<breaks).map { index in
            let from = Self.runningNs + 500_000_000 + UInt64(index) * 2_000_000_000 / UInt64(breaks)
            return from...from + 800_000_000 / UInt64(breaks)
        }
    }

    private func addSides(to report: inout ReportDocument) {
        var changes: [(String, UInt64)] = [("setup", Self.startNs)]
        var source = changes + [("active", Self.startNs + 20_000_000), ("device", Self.stoppedNs)]
        changes += [("active", Self.startNs + 25_000_000), ("postcopy-device", Self.stoppedNs)]
        var after: [(String, UInt64)] = [("postcopy-active", Self.runningNs)]
        for down in downs() {
            let length = down.upperBound - down.lowerBound
            after += [
                ("postcopy-paused", down.lowerBound),
                ("postcopy-recover", down.upperBound - length / 4),
                ("postcopy-active", down.upperBound),
            ]
        }
        source += after + [("completed", Self.endNs)]
        changes += after + [("completed", Self.endNs - 4_000_000)]
        report.source = side(source, from: Self.startNs)
        report.destination = side(changes, from: Self.startNs - 40_000_000)
        report.source?.guestStoppedAtNs = Self.stoppedNs
        report.source?.guestRunningAtNs = nil
        report.destination?.guestStoppedAtNs = nil
        report.destination?.guestRunningAtNs = Self.runningNs
        report.phases = report.source?.phases ?? []
    }

    private func side(_ changes: [(status: String, at: UInt64)], from start: UInt64) -> SideFigures
    {
        let ends = changes.dropFirst().map(\.at) + [Self.endNs]
        let phases = zip(changes, ends).map { change, end in
            PhaseFigures(
                status: change.status, atNs: change.at - start,
                durationNs: end - min(end, change.at))
        }
        let breaks = downs().map { down in
            BreakFigures(
                problem: "reset by \(Self.markup)", heardAtNs: down.lowerBound - 1_000_000,
                pausedAtNs: down.lowerBound, linkBackAtNs: down.upperBound - 2_000_000,
                resumedAtNs: down.upperBound, firstPageAtNs: down.upperBound + 300_000, attempts: 3)
        }
        return SideFigures(
            pid: 7, status: "completed", guestRunsHere: true, startedAtNs: start,
            endedAtNs: Self.endNs, phases: phases, faults: 48_100, requests: 48_000,
            receivedBytes: 4_100 << 20, faultOrigin: "user and kernel",
            peakResidentBytes: 4_200 << 20, breaks: breaks.isEmpty ? nil : breaks,
            breakCount: breaks.isEmpty ? nil : breaks.count)
    }

    // MARK: Waits

    private mutating func addWaits(to report: inout ReportDocument) {
        var counts: [UInt64: UInt64] = [:]
        var buckets = LatencyBuckets()
        for _ in 0..<6_000 {
            // Most near 100 us, a tail up to a second, as waits are.
            let tail = random.below(100)
            let base = 40_000 + random.below(160_000)
            let ns = UInt64(
                tail == 0 ? base * 900 : tail < 6 ? base * 30 : tail < 20 ? base * 4 : base)
            counts[ns, default: 0] += 1
            buckets.record(nanoseconds: ns)
        }
        let values = counts.keys.sorted()
        report.postcopyLatencyHistogram = HistogramFigures(
            valuesNs: values, counts: values.map { counts[$0] ?? 0 })
        report.postcopyLatencyDist = buckets.counts
        let latency = LatencyFigures(
            count: 6_000, mean: 1_900_000, p50: 121_000, p90: 640_000, p99: 6_000_000,
            p999: 171_000_000, max: values.last ?? 0)
        report.postcopyLatencyNs = latency
        report.postcopyBlocktimeNs = 210_000_000
        report.postcopyVcpuBlocktimeNs = (0..<vcpus).map { _ in
            UInt64(900_000_000 + random.below(900_000_000))
        }
        report.postcopyVcpuLatencyNs = (0..<vcpus).map { _ in latency }
        report.postcopyOtherLatencyNs = [
            NamedLatencyFigures(
                name: "worker \(Self.markup)", totalNs: 40_000_000, latency: latency),
            NamedLatencyFigures(name: "", totalNs: 900_000, latency: latency),
        ]
    }

    private mutating func samples() -> [SampleFigures] {
        let span = Self.endNs - Self.startNs
        var sent: UInt64 = 0
        return (0..<600).map { index in
            let at = Self.startNs + span * UInt64(index) / 599
            let isDown = downs().contains { $0.contains(at) }
            if !isDown && !(Self.stoppedNs...Self.runningNs).contains(at) {
                sent += UInt64(6_500_000 + random.below(1_500_000))
            }
            return SampleFigures(
                atNs: at, status: isDown ? "postcopy-paused" : "active", sentBytes: sent,
                receivedBytes: sent - min(sent, 3_000_000), remainingBytes: 0, requests: 0,
                waitingVcpus: at < Self.runningNs ? 0 : isDown ? vcpus : random.below(vcpus + 1))
        }
    }

    // MARK: The recorder

    private mutating func flight() -> FlightFigures {
        let causes: [(String, UInt64, UInt64)] = [
            ("link-down", 2_600_000_000, 12), ("page-travel", 610_000_000, 3_100),
            ("already-in-flight", 420_000_000, 900), ("noticing", 260_000_000, 700),
            ("serving", 190_000_000, 400), ("behind-background", 160_000_000, 250),
            ("source-busy", 90_000_000, 120), ("placing", 40_000_000, 12),
            ("a cause \(Self.markup)", 9_000_000, 1),
        ]
        let parts = causes.map { CauseFigures(cause: $0.0, ns: $0.1, waits: $0.2) }
        return FlightFigures(
            timing: TimingFigures(
                kernelTimed: 5_200, handlerTimed: 800, readDelayMeanNs: 9_000,
                readDelayMaxNs: 2_400_000, boundNs: 31_000_000, boundedBy: "probe"),
            clock: ClockFigures(isShared: false, offsetNs: -41_000_000_000, errorNs: 60_000),
            totalNs: parts.reduce(0) { $0 + $1.ns }, attribution: parts,
            worst: (0..<20).map { worst($0) }, map: map(), recordedWaits: 6_000, lostWaits: 17)
    }

    private mutating func worst(_ index: Int) -> WaitFigures {
        let ns = UInt64(480_000_000 / (index + 1))
        return WaitFigures(
            thread: Int32(900 + index), name: index % 3 == 2 ? "io \(Self.markup)" : nil,
            vcpu: index % 3 == 2 ? nil : index % vcpus, block: "pc.ram\(Self.markup)",
            offset: UInt64(random.below(1 << 20)) << 12,
            atNs: Self.runningNs + 600_000_000 + UInt64(index) * 90_000_000, ns: ns,
            parts: [
                CauseFigures(cause: "link-down", ns: ns / 10 * 9),
                CauseFigures(cause: "page-travel", ns: ns / 20),
                CauseFigures(cause: "placing", ns: ns - ns / 10 * 9 - ns / 20),
            ], reason: "90 % with the link down")
    }

    private mutating func map() -> MapFigures {
        let (columns, rows) = (120, 64)
        func cell(_ column: Int, _ row: Int) -> UInt64 { UInt64(row * columns + column) }
        var faults: [[UInt64]] = []
        var background: [[UInt64]] = []
        for column in 0..<columns {
            // The stream goes through memory once; faults come where the guest's hot set lies.
            background.append([
                cell(column, column * rows / columns), UInt64(3_000 + random.below(900)),
            ])
            for _ in 0..<max(1, 12 - column / 10) {
                faults.append([cell(column, 20 + random.below(24)), UInt64(1 + random.below(60))])
            }
        }
        return MapFigures(
            columns: columns, rows: rows, fromNs: Self.runningNs, toNs: Self.endNs, bytes: 4 << 30,
            faults: faults, urgent: faults.map { [$0[0], $0[1] / 2 + 1] }, background: background)
    }
}
