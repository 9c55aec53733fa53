import TestSupport
import Testing

@testable import FlightRecorder

@Suite("what a wait consisted of")
struct AttributionTests {
    @Test(
        "the parts of every wait lie end to end from its beginning to its end",
        arguments: 0..<2000 as Range<UInt64>)
    func parts(seed: UInt64) {
        let log = FaultLog.random(seed: seed)
        let attribution = WaitAttribution(log, clock: ClockOffset(log))
        let waits = log.destination?.waits ?? []
        var parts: [WaitPart] = []
        for wait in waits {
            attribution.cut(wait, into: &parts)
            var cursor = wait.began
            for part in parts {
                #expect(part.from == cursor && part.to > part.from)
                cursor = part.to
            }
            #expect(cursor == wait.endedAt || parts.isEmpty)
            #expect(parts.reduce(0) { $0 + $1.to - $1.from } == wait.lengthNanoseconds)
        }
        let analysis = FaultAnalysis(log)
        let total = waits.reduce(0) { $0 + $1.lengthNanoseconds }
        #expect(analysis.causes.total == total && analysis.waits.nanoseconds == total)
        #expect(
            (analysis.vcpus + analysis.others).reduce(0) { $0 + $1.waits.nanoseconds } == total)
        #expect(
            analysis.waitsByCause.values.reduce(0, +)
                == UInt64(waits.count { $0.lengthNanoseconds > 0 }))
        for worst in analysis.worst { #expect(worst.parts.total == worst.wait.lengthNanoseconds) }
        let lengths = waits.map(\.lengthNanoseconds).filter { $0 > 0 }.sorted(by: >)
        #expect(analysis.worst.map(\.wait.lengthNanoseconds) == Array(lengths.prefix(20)))
    }

    /// A wait that both sides recorded in full.
    private static let whole = WaitRecord(
        100, read: 110, requested: 130, firstByte: 700, placed: 760, ended: 800)

    private static let served = [
        (ServiceFlags(), UInt32(0), DelayCause.serving), ([], 3, .sourceBusy),
        (.behindBackground, 0, .behindBackground),
        ([.rateLimited, .behindBackground], 2, .rateLimit),
        (.hugePageInFlight, 0, .hugePageInFlight), (.relayed, 0, .relayed),
    ]

    @Test("a wait that was served is cut at every instant", arguments: served)
    func cutAtInstants(flags: ServiceFlags, ahead: UInt32, cause: DelayCause) {
        let service = ServiceRecord(200, begun: 500, written: 600, flags: flags, ahead: ahead)
        var expected: [DelayCause: UInt64] = [
            .noticing: 10, .asking: 20, .requestTravel: 70, .pageTravel: 100, .placing: 60,
            .waking: 40, .serving: 100,
        ]
        expected[cause, default: 0] += 300
        #expect(Self.causes([Self.whole], [service]) == expected)
    }

    @Test("what the background had sent was on its way already")
    func alreadySent() {
        let service = ServiceRecord(200, begun: 210, flags: .alreadySent)
        #expect(
            Self.causes([Self.whole], [service])
                == [.noticing: 10, .asking: 20, .alreadyInFlight: 570, .placing: 60, .waking: 40])
    }

    @Test("without the source's record, link and source are one", arguments: [true, false])
    func oneSide(hasSource: Bool) {
        #expect(
            Self.causes([Self.whole], hasSource ? [] : nil)
                == [.noticing: 10, .asking: 20, .linkAndSource: 570, .placing: 60, .waking: 40])
    }

    @Test("a link that is down counts whatever else went on")
    func linkDown() {
        let phases = [
            FaultLog.Phase(status: "postcopy-active", at: 50),
            FaultLog.Phase(status: "postcopy-paused", at: 150),
            FaultLog.Phase(status: "postcopy-recover", at: 180),
            FaultLog.Phase(status: "postcopy-active", at: 250),
        ]
        let services = [
            ServiceRecord(140, begun: 141, written: 145),
            ServiceRecord(300, begun: 300, written: 600),
        ]
        #expect(
            Self.causes([Self.whole], services, phases: phases) == [
                .noticing: 10, .asking: 20, .requestTravel: 70, .linkDown: 100, .serving: 300,
                .pageTravel: 100, .placing: 60, .waking: 40,
            ])
    }

    @Test("who joins a wait waits for what the first one waits for")
    func joined() {
        let second = WaitRecord(
            550, read: 560, placed: 760, ended: 805, flags: [.joined, .kernelTimed], thread: 11)
        let service = ServiceRecord(200, begun: 500, written: 600)
        let log = FaultLog.made([Self.whole, second], [service])
        let attribution = WaitAttribution(log, clock: ClockOffset(log))
        var parts: [WaitPart] = []
        attribution.cut(second, into: &parts)
        #expect(parts.map(\.cause) == [.serving, .pageTravel, .placing, .waking])
        #expect(parts.map(\.to) == [600, 700, 760, 805])
        #expect(
            Self.causes([second], [service])
                == [.noticing: 10, .waitingForAnother: 200, .waking: 45])
    }

    @Test("a page that was there when its fault was read had been on its way")
    func present() {
        let early = WaitRecord(100, read: 300, placed: 250, ended: 310, flags: .present)
        #expect(Self.causes([early], []) == [.alreadyInFlight: 150, .waking: 60])
        let unknown = WaitRecord(100, read: 300, ended: 310, flags: .present)
        #expect(Self.causes([unknown], []) == [.noticing: 200, .waking: 10])
    }

    @Test("a wait that never ended goes on where it stood")
    func unfinished() {
        let wait = WaitRecord(100, read: 110, requested: 130, ended: 900, flags: .unfinished)
        let begun = ServiceRecord(200, begun: 500)
        #expect(
            Self.causes([wait], [begun])
                == [.noticing: 10, .asking: 20, .requestTravel: 70, .serving: 700])
    }

    @Test("the reason names the largest parts in words")
    func reason() throws {
        let log = FaultLog.made(
            [Self.whole], [ServiceRecord(150, begun: 600, written: 650, ahead: 1)])
        let worst = try #require(FaultAnalysis(log).worst.first)
        #expect(worst.reason == "64 % behind other requests at the source")
    }

    private static func causes(
        _ waits: [WaitRecord], _ services: [ServiceRecord]?, phases: [FaultLog.Phase] = []
    ) -> [DelayCause: UInt64] {
        let causes = FaultAnalysis(.made(waits, services, phases: phases)).causes.sorted
        return Dictionary(uniqueKeysWithValues: causes.map { ($0.cause, $0.nanoseconds) })
    }
}
