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
            var (cursor, cut, added) = (wait.began, CauseTotals(), CauseTotals())
            attribution.add(wait, to: &added)
            for part in parts { cut.add(part.to - part.from, to: part.cause) }
            #expect(cut == added)
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

    private static let served = [
        (ServiceFlags(), UInt32(0), DelayCause.serving), ([], 3, .sourceBusy),
        (.behindBackground, 0, .behindBackground), (.behindBackground, 2, .behindBackground),
    ]

    @Test("a wait that was served is cut at every instant", arguments: served)
    func cutAtInstants(flags: ServiceFlags, ahead: UInt32, cause: DelayCause) {
        let service = ServiceRecord(200, begun: 500, written: 600, flags: flags, ahead: ahead)
        var expected: [DelayCause: UInt64] = [
            .noticing: 10, .asking: 20, .requestTravel: 70, .pageTravel: 100, .placing: 60,
            .waking: 40, .serving: 100,
        ]
        expected[cause, default: 0] += 300
        #expect(FaultLog.causes([WaitRecord.whole], [service]) == expected)
    }

    @Test("what the background had sent was on its way already")
    func alreadySent() {
        let service = ServiceRecord(200, begun: 210, flags: .alreadySent)
        #expect(
            FaultLog.causes([WaitRecord.whole], [service])
                == [.noticing: 10, .asking: 20, .alreadyInFlight: 570, .placing: 60, .waking: 40])
    }

    /// One whose page the background brought.
    private static let fromBackground = WaitRecord(
        100, read: 110, requested: 130, placed: 760, ended: 760, flags: .kernelTimed)

    private static let inPieces = [
        (ServiceFlags([.alreadySent, .hugePageInFlight]), DelayCause.hugePageInFlight),
        ([.alreadySent, .hugePageInFlight, .rateLimited], .rateLimit),
    ]

    @Test("a huge page that is sent in pieces is waited for until it is there", arguments: inPieces)
    func pieces(flags: ServiceFlags, cause: DelayCause) {
        let service = ServiceRecord(200, begun: 210, flags: flags, ahead: 1)
        #expect(
            FaultLog.causes([Self.fromBackground], [service])
                == [.noticing: 10, .asking: 20, .requestTravel: 70, cause: 560])
    }

    @Test("what the background brought before its request was read was on its way already")
    func servedLate() {
        for flags: ServiceFlags in [
            .alreadySent, [.alreadySent, .hugePageInFlight], [.alreadySent, .behindBackground],
        ] {
            let services = [900, 950].map { ServiceRecord($0, begun: $0 + 5, flags: flags) }
            #expect(
                FaultLog.causes([Self.fromBackground], services)
                    == [.noticing: 10, .asking: 20, .alreadyInFlight: 630])
        }
        // What was sent only then cannot be what came.
        #expect(
            FaultLog.causes([Self.fromBackground], [ServiceRecord(900, begun: 905, written: 910)])
                == [.noticing: 10, .asking: 20, .linkAndSource: 630])
        let unasked = WaitRecord(100, read: 110, placed: 760, ended: 760, flags: .kernelTimed)
        #expect(FaultLog.causes([unasked], nil) == [.noticing: 10, .alreadyInFlight: 650])
    }

    @Test("a page that the source had to fetch is waited for until the source has it")
    func relayed() {
        let wanted = ServiceRecord(200, begun: 205, flags: .relayed)
        let sent = ServiceRecord(400, begun: 500, written: 600, ahead: 1)
        #expect(
            FaultLog.causes([.whole], [wanted, sent]) == [
                .noticing: 10, .asking: 20, .requestTravel: 70, .relayed: 300, .serving: 100,
                .pageTravel: 100, .placing: 60, .waking: 40,
            ])
        // In the end the background sent it.
        for again in [[], [ServiceRecord(400, begun: 500, flags: .relayed)]] {
            #expect(
                FaultLog.causes([Self.fromBackground], [wanted] + again)
                    == [.noticing: 10, .asking: 20, .requestTravel: 70, .relayed: 560])
        }
    }

    @Test("without an urgent channel a request waits in the background's queue, or is met by it")
    func oneChannel() {
        let sent = ServiceRecord(200, begun: 500, written: 600, flags: .behindBackground, ahead: 2)
        #expect(
            FaultLog.causes([Self.fromBackground], [sent]) == [
                .noticing: 10, .asking: 20, .requestTravel: 70, .behindBackground: 300,
                .serving: 100, .pageTravel: 160,
            ])
        let met = ServiceRecord(200, begun: 500, flags: [.alreadySent, .behindBackground])
        #expect(
            FaultLog.causes([Self.fromBackground], [met])
                == [.noticing: 10, .asking: 20, .alreadyInFlight: 630])
    }

    @Test("without the source's record, link and source are one", arguments: [true, false])
    func oneSide(hasSource: Bool) {
        #expect(
            FaultLog.causes([WaitRecord.whole], hasSource ? [] : nil)
                == [.noticing: 10, .asking: 20, .linkAndSource: 570, .placing: 60, .waking: 40])
    }

    @Test("who joins a wait waits for what the first one waits for")
    func joined() {
        let second = WaitRecord(
            550, read: 560, placed: 760, ended: 805, flags: [.joined, .kernelTimed], thread: 11)
        let service = ServiceRecord(200, begun: 500, written: 600)
        let log = FaultLog.made([WaitRecord.whole, second], [service])
        let attribution = WaitAttribution(log, clock: ClockOffset(log))
        var parts: [WaitPart] = []
        attribution.cut(second, into: &parts)
        #expect(parts.map(\.cause) == [.serving, .pageTravel, .placing, .waking])
        #expect(parts.map(\.to) == [600, 700, 760, 805])
        #expect(
            FaultLog.causes([second], [service])
                == [.noticing: 10, .waitingForAnother: 200, .waking: 45])
    }

    @Test("a request stands when who made it leaves without the page")
    func askerLeft() {
        let asker = WaitRecord(
            100, read: 110, requested: 130, ended: 160, flags: [.kernelTimed, .moved])
        let service = ServiceRecord(200, begun: 500, written: 600)
        // The same thread once more, or another one, whether it came before that or later.
        for (began, thread) in [(150, 11), (170, 11), (170, 10)] as [(UInt64, Int32)] {
            let wait = WaitRecord(
                began, read: began + 5, firstByte: 700, placed: 760, ended: 760,
                flags: [.joined, .urgent, .kernelTimed], thread: thread)
            let log = FaultLog.made([asker, wait], [service])
            var parts: [WaitPart] = []
            WaitAttribution(log, clock: ClockOffset(log)).cut(wait, into: &parts)
            #expect(parts.map(\.cause) == [.requestTravel, .serving, .pageTravel, .placing])
            #expect(parts.map(\.to) == [200, 600, 700, 760])
        }
    }

    @Test("a thread that went on had mostly been woken by the background")
    func moved() {
        let wait = WaitRecord(
            100, read: 110, requested: 130, ended: 700, flags: [.kernelTimed, .moved])
        let late: UInt64 = 10_000_000
        func causes(_ at: UInt64, first: UInt64 = 5, count: UInt32 = 4) -> [DelayCause: UInt64] {
            var log = FaultLog.made([wait], [ServiceRecord(200, begun: 300, written: 400)])
            var placement = PlacementRecord()
            (placement.at, placement.page, placement.count) = (at, first, count)
            var behind = placement
            (behind.page, behind.at) = (8, 1)
            log.destination?.placements = [placement, behind]
            return log.causes
        }
        var common: [DelayCause: UInt64] = [
            .noticing: 10, .asking: 20, .requestTravel: 70, .serving: 200, .pageTravel: 300,
        ]
        #expect(causes(700 + late) == common)
        common[.pageTravel] = 290
        #expect(causes(690) == common.merging([.waking: 10]) { $1 })
        let early = WaitRecord(100, read: 110, ended: 150, flags: [.kernelTimed, .moved])
        let others: [(UInt64, UInt64)] = [(155, 7), (150 + late + 1, 7), (99, 7), (155, 8)]
        for (at, first) in others + [(155, 5), (150 + late + 1, 5)] {
            var log = FaultLog.made([early], nil)
            var placement = PlacementRecord()
            (placement.at, placement.page, placement.count) = (
                at, first, UInt32(max(1, 8 - first))
            )
            log.destination?.placements = [placement]
            let cause: DelayCause = at == 155 && first < 8 ? .alreadyInFlight : .linkAndSource
            #expect(log.causes == [.noticing: 10, cause: 40])
        }
    }

    @Test("a page that was there when its fault was read had been on its way")
    func present() {
        let early = WaitRecord(100, read: 300, placed: 250, ended: 310, flags: .present)
        #expect(FaultLog.causes([early], []) == [.alreadyInFlight: 150, .waking: 60])
        let unknown = WaitRecord(100, read: 300, ended: 310, flags: .present)
        #expect(FaultLog.causes([unknown], []) == [.noticing: 200, .waking: 10])
    }

    @Test("a wait that never ended goes on where it stood")
    func unfinished() {
        let wait = WaitRecord(100, read: 110, requested: 130, ended: 900, flags: .unfinished)
        let begun = ServiceRecord(200, begun: 500)
        #expect(
            FaultLog.causes([wait], [begun])
                == [.noticing: 10, .asking: 20, .requestTravel: 70, .serving: 700])
    }

    @Test("the reason names the largest parts in words")
    func reason() throws {
        let log = FaultLog.made(
            [WaitRecord.whole], [ServiceRecord(150, begun: 600, written: 650, ahead: 1)])
        let worst = try #require(FaultAnalysis(log).worst.first)
        #expect(worst.reason == "64 % behind other requests at the source")
    }
}
