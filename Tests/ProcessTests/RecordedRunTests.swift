import Foundation
import Testing

@testable import PostcopyCommand

/// What a run says of its waits, in runs that are held up in different ways.
@Suite(.serialized) struct RecordedRunTests {
    struct Obstacle: Sendable, CustomTestStringConvertible {
        let arguments: [String]
        /// Causes that must have taken time.
        var causes: [String] = []
        /// Huge pages of 2 MiB that it needs.
        var hugePages = 0

        var testDescription: String { arguments.joined(separator: " ") }
    }

    static let obstacles = [
        Obstacle(arguments: []),
        Obstacle(arguments: ["--no-preempt"], causes: ["behind-background"]),
        Obstacle(arguments: ["--max-postcopy-bandwidth", "100M"]),
        Obstacle(
            arguments: ["--break-after", "30%", "--break-for", "300ms"], causes: ["link-down"]),
        Obstacle(arguments: ["--no-fault-clock", "--vcpus", "5"]),
        Obstacle(
            arguments: [
                "--backing", "hugetlb", "--page-size", "2M", "--max-postcopy-bandwidth", "100M",
            ], hugePages: 64),
    ]

    @Test(
        "says of each wait what it consisted of, and how far that may be off", arguments: obstacles)
    func attribution(obstacle: Obstacle) throws {
        if obstacle.hugePages > 0 { try #require(HugePagePool.isOurs, "root, for huge pages") }
        try HugePagePool.raised(by: obstacle.hugePages) { try check(obstacle) }
    }

    private func check(_ obstacle: Obstacle) throws {
        let ended = try inPlace { place in
            let command = try RunningCommand(
                ["run"] + RunTests.quick + obstacle.arguments, in: place)
            let ended = command.end(within: 60)
            #expect(place.leftovers() == [])
            return ended
        }
        #expect(ended.status == 0, "\(ended)")
        let report = try ReportDocument(decoding: Data(ended.output.utf8))
        let flight = try #require(report.flight)
        let latency = try #require(report.postcopyLatencyNs)
        #expect(latency.count > 0 && flight.recordedWaits == latency.count)
        #expect(flight.lostWaits == 0)
        #expect(flight.attribution.reduce(0) { $0 + $1.ns } == flight.totalNs)
        #expect(flight.attribution.reduce(0) { $0 + ($1.waits ?? 0) } == flight.recordedWaits)
        // What was recorded is what the account of waits counted.
        let counted =
            (report.postcopyVcpuBlocktimeNs ?? []).reduce(0, +)
            + (report.postcopyOtherLatencyNs ?? []).reduce(0) { $0 + $1.totalNs }
        #expect(counted == flight.totalNs)
        #expect(report.postcopyLatencyDist?.reduce(0, +) == latency.count)
        for cause in obstacle.causes {
            #expect(flight.attribution.contains { $0.cause == cause && $0.ns > 0 }, "\(cause)")
        }
        // Both ends run here, and each found what the other wrote.
        #expect(flight.clock?.isShared == true)
        #expect(
            !flight.attribution.contains {
                $0.cause == "link-and-source" && $0.ns > flight.totalNs / 2
            })
        try checkTiming(report, flight, isTimed: !obstacle.arguments.contains("--no-fault-clock"))
    }

    /// The record lies within what the workload's threads saw of it.
    private func checkTiming(
        _ report: ReportDocument, _ flight: FlightFigures, isTimed: Bool
    ) throws {
        let timing = flight.timing
        #expect(timing.kernelTimed + timing.handlerTimed == flight.recordedWaits)
        if !isTimed { #expect(timing.kernelTimed == 0) }
        let probe = try #require(timing.probe)
        #expect(probe.matchedWaits == flight.recordedWaits && probe.unmatchedWaits == 0)
        #expect(timing.boundedBy == "probe" && timing.boundNs == probe.boundNs)
        let seen = (report.workloadStalls ?? []).reduce(0) { $0 + $1.totalNs }
        #expect(flight.totalNs <= seen + probe.overNs)
    }
}
