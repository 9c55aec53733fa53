import TestSupport
import Testing

@testable import FlightRecorder

@Suite("waits that saw the link break")
struct LinkBreaksTests {
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
            FaultLog.causes([WaitRecord.whole], services, phases: phases) == [
                .noticing: 10, .asking: 20, .requestTravel: 70, .linkDown: 100, .serving: 300,
                .pageTravel: 100, .placing: 60, .waking: 40,
            ])
    }

    @Test("a request that was lost with its link was on its way until then")
    func requestedAgain() {
        var wait = WaitRecord.whole
        wait.flags.insert(.requestedAgain)
        let phases = [
            FaultLog.Phase(status: "postcopy-paused", at: 250),
            FaultLog.Phase(status: "postcopy-active", at: 300),
        ]
        let early = ServiceRecord(200, begun: 210, written: 220)
        var common: [DelayCause: UInt64] = [
            .noticing: 10, .asking: 20, .requestTravel: 120, .linkDown: 50, .placing: 60,
            .waking: 40,
        ]
        #expect(
            FaultLog.causes([wait], [early], phases: phases)
                == common.merging([.linkAndSource: 400]) { $1 })
        #expect(
            FaultLog.causes([wait], nil, phases: phases)
                == common.merging([.linkAndSource: 400]) { $1 })
        let sent = ServiceRecord(280, begun: 290, flags: .alreadySent)
        #expect(
            FaultLog.causes([wait], [early, sent], phases: phases)
                == common.merging([.alreadyInFlight: 400]) { $1 })
        let late = ServiceRecord(340, begun: 500, written: 600, ahead: 1)
        common[.requestTravel] = 160
        #expect(
            FaultLog.causes([wait], [early, late], phases: phases)
                == common.merging([.sourceBusy: 160, .serving: 100, .pageTravel: 100]) { $1 })
        // Whoever joined before the break waited for the same.
        let joined = WaitRecord(
            140, read: 145, requested: 310, firstByte: 700, placed: 760, ended: 800,
            flags: [.joined, .kernelTimed, .urgent, .requestedAgain], thread: 11)
        let log = FaultLog.made([wait, joined], [early, late], phases: phases)
        var totals = CauseTotals()
        WaitAttribution(log, clock: ClockOffset(log)).add(joined, to: &totals)
        #expect(totals[.requestTravel] == 150 && totals[.linkDown] == 50)
        #expect(totals[.asking] == 0 && totals[.sourceBusy] == 160)
    }

    @Test("breaks of the link are summed as they lie", arguments: 0..<200 as Range<UInt64>)
    func breaks(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var side = FaultLog.Side()
        side.phases = (0..<random.below(8)).map { _ in
            FaultLog.Phase(
                status: ["postcopy-paused", "postcopy-active"][random.below(2)],
                at: UInt64(random.below(40)))
        }
        let breaks = LinkBreaks(side)
        for from in 0..<42 as Range<UInt64> {
            for to in from..<42 {
                let whole = from < to ? [WaitPart(cause: .serving, from: from, to: to)] : []
                var parts: [WaitPart] = []
                breaks.lay(over: whole, into: &parts)
                let down = parts.filter { $0.cause == .linkDown }
                #expect(
                    breaks.downNanoseconds(from: from, to: to)
                        == down.reduce(0) { $0 + $1.to - $1.from })
                let begin = breaks.lastBegin(from: from, to: to)
                #expect((begin == nil) == down.isEmpty)
                if let begin, let last = down.last { #expect(max(begin, from) == last.from) }
            }
        }
    }
}
