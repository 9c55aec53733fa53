import Foundation
import Testing

@testable import PostcopyCommand

/// A report with every field filled.
func fullReport() -> ReportDocument {
    var cut = CutFigures(cutAtNs: 200, healedAtNs: 300)
    cut.sourcePausedAfterNs = 1
    cut.destinationPausedAfterNs = 2
    cut.firstPageAfterNs = 3
    let broken = BreakFigures(
        problem: "reset", heardAtNs: 199, pausedAtNs: 201, linkBackAtNs: 302, resumedAtNs: 303,
        firstPageAtNs: 304, attempts: 2, backOffNs: 10)
    let phases = [
        PhaseFigures(status: "setup", atNs: 0, durationNs: 1_000),
        PhaseFigures(status: "completed", atNs: 1_000, durationNs: 0),
    ]
    let side = SideFigures(
        pid: 7, status: "completed", errorDesc: "none", guestRunsHere: false, startedAtNs: 5,
        endedAtNs: 9_000, guestStoppedAtNs: 100, guestRunningAtNs: 400, phases: phases, faults: 2,
        requests: 3, zeroPages: 4, receivedBytes: 5, faultOrigin: "user only",
        peakResidentBytes: 6 << 20, hugeBytesAtStart: 1 << 20,
        hugeBytesAtEnd: 1_040_000, healedRanges: 24, healNs: 25, lockProblem: "no room",
        breaks: [broken], breakCount: 1, isAbandoned: true)
    return ReportDocument(
        command: "run", status: "completed", errorDesc: "none", totalTimeNs: 1_000,
        downtimeNs: 300,
        ram: RAMFigures(
            total: 1 << 20, pageSize: 4096, normal: 1, duplicate: 2, transferred: 3, remaining: 4,
            precopyBytes: 5, downtimeBytes: 6, postcopyBytes: 7, postcopyRequests: 8,
            urgentPages: 9, backgroundPages: 10),
        postcopyBlocktimeNs: 11, postcopyVcpuBlocktimeNs: Array(repeating: 1_234_567, count: 9),
        postcopyLatencyNs: LatencyFigures(
            count: 12, mean: 13, p50: 14, p90: 15, p99: 16, p999: 17, max: 18),
        verify: VerifyFigures(
            pages: 256, mismatches: 0, mismatchedWords: 0, vcpuMismatches: 0, steps: 19,
            side: "destination"),
        missing: [MissingFigures(block: "workload.ram", hostPages: 1, bytes: 4096)],
        cuts: [cut], cutsAsked: 1, vcpusInLostMemory: 1,
        phases: phases,
        channels: ChannelFigures(uri: "tcp:a:1", transport: "tcp", preempt: true, proxy: "tcp:b:2"),
        workload: WorkloadFigures(
            memory: 1 << 20, backing: "anonymous", pageSize: 4096, vcpus: 2, pattern: "zipf",
            writeFraction: 0.25, hotSet: 4096, fill: "text", rate: 20, seed: 1 << 53),
        workloadStalls: [StallFigures(count: 21, totalNs: 22, maxNs: 23)],
        machine: MachineFigures(cpus: 2, kernel: "6.18", loadAverage: [0.5, 1, 2]), source: side,
        destination: side)
}

@Suite struct ReportTests {
    @Test("the keys are those that readers were promised")
    func keys() throws {
        let object = try #require(
            JSONSerialization.jsonObject(with: fullReport().encoded()) as? [String: Any])
        func keys(_ name: String) -> Set<String> {
            Set((object[name] as? [String: Any] ?? [:]).keys)
        }
        #expect(
            Set(object.keys) == [
                "schema", "command", "status", "error-desc", "total-time-ns", "downtime-ns",
                "ram", "postcopy-blocktime-ns", "postcopy-vcpu-blocktime-ns",
                "postcopy-latency-ns", "verify", "missing", "phases", "channels", "workload",
                "workload-stalls", "machine", "source", "destination", "cuts", "cuts-asked",
                "vcpus-in-lost-memory",
            ])
        #expect(
            keys("ram") == [
                "total", "page-size", "normal", "duplicate", "transferred", "remaining",
                "precopy-bytes", "downtime-bytes", "postcopy-bytes", "postcopy-requests",
                "urgent-pages", "background-pages",
            ])
        #expect(
            keys("postcopy-latency-ns") == ["count", "mean", "p50", "p90", "p99", "p999", "max"])
        #expect(
            keys("verify") == [
                "pages", "mismatches", "mismatched-words", "vcpu-mismatches", "steps", "side",
            ])
        #expect(
            keys("destination") == [
                "pid", "status", "error-desc", "guest-runs-here", "started-at-ns", "ended-at-ns",
                "guest-stopped-at-ns", "guest-running-at-ns", "phases", "faults", "requests",
                "zero-pages", "received-bytes", "fault-origin", "peak-resident-bytes",
                "huge-bytes-at-start", "huge-bytes-at-end",
                "healed-ranges", "heal-ns", "lock-problem", "breaks", "break-count",
                "is-abandoned",
            ])
        #expect(keys("machine") == ["cpus", "kernel", "load-average"])
        #expect(keys("channels") == ["uri", "transport", "preempt", "proxy"])
        #expect(
            Self.keys(ofFirst: object["cuts"]) == [
                "cut-at-ns", "healed-at-ns", "source-paused-after-ns",
                "destination-paused-after-ns", "first-page-after-ns",
            ])
        let source = object["source"] as? [String: Any]
        #expect(
            Self.keys(ofFirst: source?["breaks"]) == [
                "problem", "heard-at-ns", "paused-at-ns", "link-back-at-ns", "resumed-at-ns",
                "first-page-at-ns", "attempts", "back-off-ns",
            ])
    }

    @Test("a report that is read again is the same report")
    func roundTrip() throws {
        let report = fullReport()
        #expect(try ReportDocument(decoding: report.encoded()) == report)
    }

    @Test("the destination's half adds the exact downtime and takes nothing away")
    func merging() {
        var report = fullReport()
        report.postcopyBlocktimeNs = nil
        report.downtimeNs = 1
        report.add(destination: fullReport())
        #expect(report.downtimeNs == 300)
        #expect(report.postcopyBlocktimeNs == 11)
        #expect(report.totalTimeNs == 8_995)
        #expect(report.ram.normal == 1)
    }

    private static func keys(ofFirst list: Any?) -> Set<String> {
        Set((list as? [[String: Any]])?.first?.keys.map(\.self) ?? [])
    }

    @Test("only a migration that completed and was found right is a success")
    func success() {
        var report = fullReport()
        #expect(!report.isSuccess, "there is an error")
        report.errorDesc = nil
        #expect(report.isSuccess)
        report.verify?.vcpuMismatches = 1
        #expect(!report.isSuccess)
        report.verify = nil
        #expect(!report.isSuccess)
        report.command = SendCommand.name
        #expect(report.isSuccess, "a source alone does not see the verification")
        report.status = "postcopy-paused"
        #expect(!report.isSuccess)
    }

    @Test("a paused source says where the guest is only when it was told")
    func paused() {
        var report = fullReport()
        report.status = "postcopy-paused"
        report.source?.isAbandoned = nil
        report.destination?.isAbandoned = nil
        report.missing = nil
        #expect(report.failureLine.contains("the guest is at the destination"))
        report.downtimeNs = nil
        #expect(!report.failureLine.contains("the guest is at the destination"))
        #expect(report.failureLine.contains("the guest may be lost"))
    }

    @Test("who gave a guest up is told what was lost by that")
    func abandoned() {
        var report = fullReport()
        report.status = "postcopy-paused"
        #expect(report.failureLine.contains("block 'workload.ram' misses 1 page"))
        #expect(report.failureLine.contains("lost with these pages"))
        (report.missing, report.destination) = (nil, nil)
        #expect(report.failureLine.contains("gave the migration up"))
        #expect(report.failureLine.contains("are only here"))
        #expect(!report.isSuccess)
    }

    @Test("a machine whose source went away says where it is whole")
    func parkedAndPaused() throws {
        var report = fullReport()
        report.command = ReceiveCommand.name
        report.status = "postcopy-paused"
        report.source?.isAbandoned = nil
        report.destination?.isAbandoned = nil
        (report.missing, report.downtimeNs) = (nil, nil)
        let decoded = try JSONDecoder().decode(
            GuestFigures.self,
            from: Data(#"{"machineType": "pc", "blocks": [], "park": "/tmp/m"}"#.utf8))
        report.guest = decoded
        #expect(report.failureLine.contains("the machine is whole in /tmp/m"))
        report.guest?.park = nil
        #expect(report.failureLine.contains("is thrown away"))
        #expect(!report.failureLine.contains("may be lost"))
    }

    @Test("the table says what share of memory is in huge pages, and when")
    func hugePages() {
        let text = SummaryTable(fullReport()).text(columns: 140)
        let shares = "source 100 %, destination 99 %, 24 rebuilt in 25 ns"
        #expect(text.contains(shares))
        #expect(text.contains("not locked"))
    }

    @Test("the table says how many breaks there were, and cuts that never came")
    func breaksAndCuts() {
        var report = fullReport()
        #expect(!SummaryTable(report).text(columns: 140).contains("more"))
        report.source?.breakCount = 91
        report.cutsAsked = 10
        let text = SummaryTable(report).text(columns: 140)
        #expect(text.contains("source: 90 more") && text.contains("1 of 10 cuts"), "\(text)")
        report.cuts = []
        #expect(SummaryTable(report).text(columns: 140).contains("0 of 10 cuts"))
    }

    @Test("the status is said once")
    func statusOnce() {
        var report = fullReport()
        report.status = "cancelled"
        report.errorDesc = "cancelled before a source connected"
        #expect(report.failureLine == "cancelled: before a source connected; " + missingText)
        report.errorDesc = "stopped on request"
        #expect(report.failureLine == "cancelled: stopped on request; " + missingText)
    }

    private let missingText = "block 'workload.ram' misses 1 page, 4.00 KiB"

    @Test("who verifies is said where this process does not know the outcome")
    func verifiedElsewhere() {
        func verified(_ change: (inout ReportDocument) -> Void) -> Bool {
            var report = fullReport()
            report.verify = nil
            change(&report)
            return SummaryTable(report).text(columns: 80).contains("at the destination, which")
        }
        #expect(verified { $0.command = "send" })
        #expect(!verified { _ in })
        #expect(
            !verified {
                $0.command = "send"
                $0.status = "postcopy-paused"
            })
    }
}

@Suite struct LayoutTests {
    @Test("no line of the table is wider than the terminal", arguments: 60...140)
    func table(columns: Int) {
        let text = SummaryTable(fullReport()).text(columns: columns)
        let widest = text.split(separator: "\n").map(\.count).max() ?? 0
        #expect(widest <= columns, "\(text)")
        #expect(text.contains("vcpu8 1.23 ms"))
    }

    @Test("a plain line says the same without a bar")
    func line() {
        let progress = Progress(phase: "active", fraction: 0.5, details: ["1 B sent", "2 left"])
        #expect(progress.line == "active 50%, 1 B sent, 2 left")
        #expect(Progress(phase: "waiting", fraction: nil).line == "waiting")
    }

    @Test("a rate settles on what flows and never goes below zero")
    func rate() {
        var meter = RateMeter()
        for tick in 0..<50 as Range<UInt64> {
            meter.note(tick * 10_000_000, at: tick * 100_000_000)
        }
        #expect(abs(meter.bytesPerSecond - 100_000_000) < 1_000_000)
        meter.note(0, at: 10_000_000_000)
        #expect(meter.bytesPerSecond >= 0)
    }
}
