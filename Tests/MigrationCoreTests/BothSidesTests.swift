import MigrationCore
import Testing

@Suite("Both sides, explored exhaustively")
struct BothSidesTests {
    @Test(
        "in no interleaving, with loss anywhere, does the guest run twice or get lost",
        arguments: 0...3 as ClosedRange<UInt8>)
    func everyInterleaving(pages: UInt8) {
        let explorer = MigrationExplorer(pages: pages)
        #expect(explorer.violation == nil)
        #expect(explorer.worlds.count > 1_000, "the model is not trivial")
        let sources = Set(explorer.worlds.map(\.source.status))
        #expect(sources == Set(MigrationStatus.allCases).subtracting([.postcopyRecover]))
        let names = Set(explorer.worlds.map(\.destination.name))
        #expect(names == Set(DestinationPhaseName.allCases).subtracting([.recovering]))
        #expect(explorer.worlds.contains { $0.source == .completed })
        #expect(explorer.worlds.contains { $0.source == .paused(.afterEnd) })
    }

    @Test(
        "a link that breaks anywhere, any number of times, leads to one end that both sides know",
        arguments: 0...2 as ClosedRange<UInt8>)
    func everyRecovery(pages: UInt8) {
        let explorer = MigrationExplorer(pages: pages, recovers: true)
        #expect(explorer.violation == nil)
        let sources = Set(explorer.worlds.map(\.source))
        #expect(SourcePhaseTests.points.allSatisfy { sources.contains(.recovering($0)) })
        let destinations = Set(explorer.worlds.map(\.destination))
        #expect(DestinationPhaseTests.halts.allSatisfy { destinations.contains(.recovering($0)) })
    }

    @Test("a source that stays in a recovery whose link broke, or never gets through one, is found")
    func endlessRecoveryIsFound() {
        var rules = Rules()
        rules.source = { phase, event in
            phase.status == .postcopyRecover && event == .linkLost
                ? (phase, .none) : phase.after(event)
        }
        let stays = MigrationExplorer(pages: 0, recovers: true, rules: rules).violation
        #expect(stays?.hasPrefix("the guest is lost at both sides") == true)
        rules.source = { phase, event in
            phase.after(event == .bitmapsReceived ? .peerMisbehaved : event)
        }
        let circles = MigrationExplorer(pages: 0, recovers: true, rules: rules).violation
        #expect(circles?.hasPrefix("nothing leads to an end") == true)
    }

    @Test("a source that ends its stream before the commit, as QEMU 7.2 does, is as safe")
    func earlyEnd() {
        var rules = Rules()
        rules.source = { phase, event in
            switch (phase, event) {
            case (.postcopyDevice, .allPagesSent): (.postcopyDevice(allPagesSent: true), .sendEnd)
            case (.postcopyDevice(allPagesSent: true), .committed): (.completing, .none)
            default: phase.after(event)
            }
        }
        let explorer = MigrationExplorer(pages: 2, rules: rules)
        #expect(explorer.violation == nil)
        let reached = Set(explorer.worlds.map(\.destination))
        for progress in DestinationPhaseTests.progresses {
            #expect(reached.contains(.listening(progress)))
            #expect(reached.contains(.loaded(progress)))
        }
        #expect(explorer.worlds.contains { $0.source == .completed })
    }

    @Test("a source that resumes on a lost link after the package runs the guest twice")
    func resumingSourceIsFound() {
        var rules = Rules()
        rules.source = { phase, event in
            switch (phase, event) {
            case (.postcopyDevice, .linkLost): (.failed(.linkLost), .resumeGuest)
            default: phase.after(event)
            }
        }
        let violation = MigrationExplorer(pages: 1, rules: rules).violation ?? "none"
        #expect(violation.hasPrefix("the guest runs at both sides"))
    }

    @Test("a destination that takes its commit back is found")
    func refusingAfterCommitIsFound() {
        var rules = Rules()
        rules.destination = { phase, event in
            switch (phase, event) {
            case (.loaded, .deadlinePassed): (.failed(.deadlinePassed), .sendShut(error: 1))
            default: phase.after(event)
            }
        }
        let violation = MigrationExplorer(pages: 1, rules: rules).violation ?? "none"
        #expect(violation.hasPrefix("a commit was taken back"))
    }

    @Test("a destination that completes at the stream's end loses pages of the urgent channel")
    func completingEarlyIsFound() {
        var rules = Rules()
        rules.destination = { phase, event in
            switch (phase, event) {
            case (.running, .endOfStream): (.completed, .sendShut(error: 0))
            default: phase.after(event)
            }
        }
        let violation = MigrationExplorer(pages: 1, rules: rules).violation ?? "none"
        #expect(violation.hasPrefix("completed with pages missing"))
    }

    @Test("a source that fails without resuming loses the guest")
    func forgettingToResumeIsFound() {
        var rules = Rules()
        rules.source = { phase, event in
            let step = phase.after(event)
            return step.action == .resumeGuest ? (step.phase, .none) : step
        }
        let violation = MigrationExplorer(pages: 0, rules: rules).violation ?? "none"
        #expect(violation.hasPrefix("the source gave up and lost the guest"))
    }
}
