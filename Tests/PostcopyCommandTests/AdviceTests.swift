import Testing

@testable import PostcopyCommand

@Suite struct AdviceTests {
    /// A report of which nothing can be said.
    private static func quiet() -> ReportDocument {
        var report = fullReport()
        report.workload?.pattern = "uniform"
        report.machine.loadAverage = [0.1]
        report.destination?.lockProblem = nil
        report.postcopyVcpuBlocktimeNs = [5_000_000_000, 5_000_000_000]
        return report
    }

    private static func titles(_ report: ReportDocument) -> [String] {
        AdviceRules(report).advice.map(\.title)
    }

    /// Waits of which `share` percent had this cause, and the rest none that can be helped.
    private static func waiting(_ cause: String, _ share: UInt64, totalNs: UInt64) -> FlightFigures
    {
        FlightFigures(
            timing: TimingFigures(
                kernelTimed: 1, handlerTimed: 0, readDelayMeanNs: 5, readDelayMaxNs: 9, boundNs: 0,
                boundedBy: "kernel"),
            totalNs: totalNs,
            attribution: [
                CauseFigures(cause: cause, ns: totalNs / 100 * share),
                CauseFigures(cause: "serving", ns: totalNs - totalNs / 100 * share),
            ], worst: [], recordedWaits: 1, lostWaits: 0)
    }

    @Test("without figures nothing is advised")
    func silence() {
        #expect(Self.titles(Self.quiet()).isEmpty)
        #expect(
            ReportPage(document: Self.quiet(), name: "a").html
                .contains("Nothing in these figures says that another choice would have helped."))
    }

    @Test(
        "each cause that took much has its advice, which says how much, and one that took little none",
        arguments: [
            ("link-down", "Keep the link up, or get it back sooner"),
            ("already-in-flight", "Keep less of the background on its way"),
            ("behind-background", "Keep less of the background on its way"),
            ("rate-limit", "Allow the postcopy more of the link"),
            ("huge-page-in-flight", "Use smaller pages while the guest moves"),
            ("noticing", "Give the destination's handler a core"),
            ("source-busy", "Ask for fewer pages at once, or more at a time"),
            ("page-travel", "Shorten the way, or need it less often"),
        ])
    func causes(cause: String, title: String) {
        var report = Self.quiet()
        report.flight = Self.waiting(cause, 40, totalNs: 1_000_000_000)
        #expect(Self.titles(report) == [title])
        #expect(
            AdviceRules(report).advice[0].basis.contains("40 % of all waiting (400 ms of 1.00 s)"))
        report.flight = Self.waiting(cause, 19, totalNs: 1_000_000_000)
        #expect(Self.titles(report).isEmpty)
        // Nobody is troubled by a few microseconds.
        report.flight = Self.waiting(cause, 40, totalNs: 999_000)
        #expect(Self.titles(report).isEmpty)
    }

    @Test("copying pages into place is no fault of the scheduler's")
    func placing() {
        var report = Self.quiet()
        report.flight = Self.waiting("placing", 90, totalNs: 1_000_000_000)
        #expect(Self.titles(report).isEmpty)
    }

    @Test("without an urgent channel the advice is to have one")
    func urgentChannel() {
        var report = Self.quiet()
        report.channels.preempt = false
        report.flight = Self.waiting("behind-background", 40, totalNs: 1_000_000_000)
        #expect(Self.titles(report) == ["Give urgent pages a channel of their own"])
    }

    @Test(
        "a precopy is advised to go on only where stopping every vCPU costs less than their waits")
    func precopy() {
        var report = Self.quiet()
        report.switchover = SwitchoverFigures(
            rule: "rounds", ending: "postcopy", reason: "so", atNs: 1, remainingBytes: 0,
            owedBytes: 4_900, bandwidthBytesPerSecond: 1_000, dirtyBytesPerSecond: 0,
            finalSyncNs: 50_000_000)
        #expect(Self.titles(report) == ["Let the precopy finish"])
        report.switchover?.owedBytes = 5_000
        #expect(Self.titles(report).isEmpty)
        report.switchover?.owedBytes = 1
        report.switchover?.ending = "precopy"
        #expect(Self.titles(report).isEmpty)
    }

    @Test("without causes the link is to blame where the vCPUs were blocked for about as long")
    func brokenLink() {
        var report = Self.quiet()
        report.destination?.breaks?[0].pausedAtNs = 1_000_000_000
        report.destination?.breaks?[0].resumedAtNs = 3_600_000_000
        #expect(Self.titles(report) == ["Keep the link up, or get it back sooner"])
        report.postcopyVcpuBlocktimeNs = [5_300_000_000]
        #expect(Self.titles(report).isEmpty)
        report.postcopyVcpuBlocktimeNs = [1_000_000]
        #expect(Self.titles(report).isEmpty)
        report.postcopyVcpuBlocktimeNs = nil
        #expect(Self.titles(report).isEmpty)
    }

    @Test("the other rules rest on the figures that they name")
    func others() {
        var report = Self.quiet()
        report.ram.postcopyRequests = 2_000
        #expect(Self.titles(report) == ["Send memory before the guest moves"])
        report.rounds = []
        #expect(Self.titles(report).isEmpty)
        report.workload?.pattern = "sequential"
        #expect(Self.titles(report) == ["Fetch the pages that come next as well"])
        report.ram.postcopyRequests = nil
        report.machine.loadAverage = [3, 0, 0]
        #expect(Self.titles(report) == ["Take a host that is less busy"])
        report.machine.loadAverage = []
        report.destination?.lockProblem = "no room"
        #expect(Self.titles(report) == ["Allow the destination to lock memory"])
    }

    @Test("a cause has a name and a place, and one that is not known keeps its own")
    func labels() {
        let known = [
            "noticing", "asking", "link-down", "request-travel", "behind-background", "rate-limit",
            "huge-page-in-flight", "source-busy", "serving", "page-travel", "already-in-flight",
            "waiting-for-another", "relayed", "placing", "waking", "link-and-source",
        ]
        #expect(Set(known.map { CauseLabel($0).name }).count == known.count)
        #expect(CauseLabel("new").name == "new" && CauseLabel("new").place == .other)
    }
}
