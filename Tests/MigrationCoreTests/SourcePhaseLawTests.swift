import MigrationCore
import Testing

@Suite("SourcePhase, its laws")
struct SourcePhaseLawTests {
    typealias Pair = (phase: SourcePhase, event: SourceEvent, step: SourcePhase.Step)

    static let pairs: [Pair] = SourcePhaseTests.phases.flatMap { phase in
        SourcePhaseTests.events.map { (phase, $0, phase.after($0)) }
    }

    @Test("a guest that may not run here comes back only by a stop undone or a refusal in time")
    func comingBack() {
        for (phase, event, step) in Self.pairs
        where !phase.mayRunGuestHere && step.phase.mayRunGuestHere {
            #expect(step.action == .resumeGuest, "\(phase) \(event)")
            if phase != .device { #expect(event == .shut(error: 7), "\(phase) \(event)") }
        }
    }

    @Test("only `sendPackage` opens the point of no return, and only from `device`")
    func pointOfNoReturn() {
        for (phase, event, step) in Self.pairs where step.action == .sendPackage {
            #expect(phase == .device && event == .packageStarted)
            #expect(step.phase == .sendingPackage(committed: false))
        }
    }

    @Test("an end stays an end, and `failed` never follows a commit")
    func ends() {
        let ends: [MigrationStatus] = [.completed, .failed, .cancelled]
        for (phase, event, step) in Self.pairs where ends.contains(phase.status) {
            #expect(step.phase == phase, "\(phase) \(event)")
        }
        let committed: [SourcePhase] = [
            .sendingPackage(committed: true), .postcopyActive, .completing,
            .paused(.afterCommit), .paused(.afterEnd), .recovering(.afterCommit),
            .recovering(.afterEnd),
        ]
        for (phase, event, step) in Self.pairs where committed.contains(phase) {
            #expect(!step.phase.mayRunGuestHere, "\(phase) \(event)")
        }
    }

    @Test("pages flow again only behind the destination's word in a recovery")
    func resuming() {
        for (phase, event, step) in Self.pairs where phase.status == .postcopyRecover {
            #expect((step.action == .streamPages) == (event == .resumed), "\(phase) \(event)")
        }
        for (phase, event, step) in Self.pairs where phase.status == .postcopyPaused {
            let stays = [.postcopyPaused, .completed, .failed].contains(step.phase.status)
            #expect(stays || event == .reconnected, "\(phase) \(event)")
        }
    }

    @Test("a link that breaks inside a recovery leads back to where the recovery began")
    func breaksInside() {
        for point in SourcePhaseTests.points {
            for (event, _) in SourcePhaseTests.troubles {
                let step = SourcePhase.paused(point).after(.reconnected).phase.after(event)
                #expect(step.phase == .paused(point) && step.action == .pause)
            }
        }
    }

    @Test("a migration prints QEMU's words in QEMU's order")
    func statuses() {
        let events: [SourceEvent] = [
            .connected, .returnPathAnswered, .startPostcopy, .guestStopped, .packageStarted,
            .packageSent, .committed, .allPagesSent, .shut(error: 0),
        ]
        var phase = SourcePhase.none
        var words = [phase.status.description]
        for event in events {
            phase = phase.after(event).phase
            if words.last != phase.status.description { words.append(phase.status.description) }
        }
        #expect(
            words == [
                "none", "setup", "active", "device", "postcopy-device", "postcopy-active",
                "completed",
            ])
        #expect(
            MigrationStatus.allCases.map(\.rawValue) == [
                "none", "setup", "active", "device", "postcopy-device", "postcopy-active",
                "postcopy-paused", "postcopy-recover", "completed", "failed", "cancelled",
            ])
    }

    @Test("each failure says why in one line")
    func failures() {
        let failures: [SourceFailure] = [
            .linkLost, .deadlinePassed, .peerMisbehaved, .trackingFailed,
            .endedByDestination(error: 5),
        ]
        #expect(Set(failures.map(\.description)).count == failures.count)
        #expect(failures[4].description.contains("5"))
    }
}
