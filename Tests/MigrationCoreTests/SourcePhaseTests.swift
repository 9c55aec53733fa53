import MigrationCore
import Testing

@Suite("SourcePhase")
struct SourcePhaseTests {
    static let points: [SourcePhase.PausePoint] = [.beforeCommit, .afterCommit, .afterEnd]
    static let phases: [SourcePhase] =
        [
            .none, .setup(startRequested: false), .setup(startRequested: true), .active,
            .stopping(.postcopy), .stopping(.precopy), .device, .sendingPackage(committed: false),
            .sendingPackage(committed: true), .postcopyDevice(allPagesSent: false),
            .postcopyDevice(allPagesSent: true),
            .postcopyActive, .completing, .completed, .failed(.linkLost), .failed(.deadlinePassed),
            .failed(.peerMisbehaved), .failed(.trackingFailed),
            .failed(.endedByDestination(error: 1)), .cancelled,
        ] + points.map { .paused($0) } + points.map { .recovering($0) }

    static let reports: [SourceEvent] = [
        .connected, .startPostcopy, .restFits, .guestStopped, .packageStarted, .packageSent,
        .allPagesSent, .reconnected, .bitmapsReceived,
    ]
    static let troubles: [(event: SourceEvent, failure: SourceFailure)] = [
        (.linkLost, .linkLost), (.deadlinePassed, .deadlinePassed),
        (.peerMisbehaved, .peerMisbehaved), (.trackingFailed, .trackingFailed),
    ]
    static let events: [SourceEvent] =
        reports + troubles.map(\.event) + [
            .returnPathAnswered, .committed, .shut(error: 0), .shut(error: 7), .cancel,
            .resumed,
        ]

    struct Pair: Hashable {
        let phase: SourcePhase
        let event: SourceEvent
    }

    /// Every transition that changes the phase or asks for something, but for trouble and cancel.
    static let course: [(SourcePhase, SourceEvent, SourcePhase, SourceAction)] =
        [
            (.none, .connected, .setup(startRequested: false), .sendSetup),
            (.setup(startRequested: false), .startPostcopy, .setup(startRequested: true), .none),
            (.setup(startRequested: true), .startPostcopy, .setup(startRequested: true), .none),
            (.setup(startRequested: false), .returnPathAnswered, .active, .awaitStart),
            (.setup(startRequested: true), .returnPathAnswered, .stopping(.postcopy), .stopGuest),
            (.active, .startPostcopy, .stopping(.postcopy), .stopGuest),
            (.active, .restFits, .stopping(.precopy), .stopGuest),
            (.stopping(.postcopy), .guestStopped, .device, .sendDiscards),
            (.stopping(.precopy), .guestStopped, .device, .sendRest),
            (.cancelled, .guestStopped, .cancelled, .resumeGuest),
            (.device, .packageStarted, .sendingPackage(committed: false), .sendPackage),
            (
                .sendingPackage(committed: false), .committed, .sendingPackage(committed: true),
                .none
            ),
            (
                .sendingPackage(committed: false), .packageSent,
                .postcopyDevice(allPagesSent: false),
                .streamPages
            ),
            (.sendingPackage(committed: true), .packageSent, .postcopyActive, .streamPages),
            (.postcopyDevice(allPagesSent: false), .committed, .postcopyActive, .none),
            (.postcopyDevice(allPagesSent: true), .committed, .completing, .sendEnd),
            (
                .postcopyDevice(allPagesSent: false), .allPagesSent,
                .postcopyDevice(allPagesSent: true), .awaitCommit
            ),
            (
                .postcopyDevice(allPagesSent: true), .allPagesSent,
                .postcopyDevice(allPagesSent: true), .awaitCommit
            ),
            (.postcopyActive, .allPagesSent, .completing, .sendEnd),
            (.completing, .shut(error: 0), .completed, .finish),
            (.paused(.afterEnd), .shut(error: 0), .completed, .finish),
            (.paused(.beforeCommit), .committed, .paused(.afterCommit), .none),
            (.recovering(.afterEnd), .shut(error: 0), .completed, .finish),
            (.recovering(.beforeCommit), .committed, .recovering(.afterCommit), .none),
            (
                .recovering(.beforeCommit), .resumed, .postcopyDevice(allPagesSent: false),
                .streamPages
            ),
            (.recovering(.afterCommit), .resumed, .postcopyActive, .streamPages),
            (.recovering(.afterEnd), .resumed, .postcopyActive, .streamPages),
        ]
        + points.flatMap { point -> [(SourcePhase, SourceEvent, SourcePhase, SourceAction)] in
            [
                (.paused(point), .reconnected, .recovering(point), .askBitmaps),
                (.recovering(point), .bitmapsReceived, .recovering(point), .sendResume),
            ]
        }

    /// Where any trouble leads from each phase; terminal phases keep themselves.
    static func trouble(
        in phase: SourcePhase, _ failure: SourceFailure
    ) -> (SourcePhase, SourceAction) {
        switch phase.status {
        case .none, .setup: (.failed(failure), .keepGuestRunning)
        case .active where phase == .active: (.failed(failure), .keepGuestRunning)
        case .active, .device: (.failed(failure), .resumeGuest)
        case .postcopyDevice where phase == .sendingPackage(committed: true):
            (.paused(.afterCommit), .pause)
        case .postcopyDevice: (.paused(.beforeCommit), .pause)
        case .postcopyActive where phase == .completing: (.paused(.afterEnd), .pause)
        case .postcopyActive: (.paused(.afterCommit), .pause)
        case .postcopyRecover:
            (.paused(points.first { phase == .recovering($0) } ?? .beforeCommit), .pause)
        case .postcopyPaused, .completed, .failed, .cancelled: (phase, .none)
        }
    }

    static func table() -> [Pair: (SourcePhase, SourceAction)] {
        var table: [Pair: (SourcePhase, SourceAction)] = [:]
        for phase in phases {
            for event in events {
                table[Pair(phase: phase, event: event)] =
                    (phase, reports.contains(event) ? .refuse : .none)
            }
            for (event, failure) in troubles {
                table[Pair(phase: phase, event: event)] = trouble(in: phase, failure)
            }
            let refusal = SourceFailure.endedByDestination(error: 7)
            let uncommitted =
                phase.status == .postcopyDevice && phase != .sendingPackage(committed: true)
            table[Pair(phase: phase, event: .shut(error: 7))] =
                uncommitted || phase == .paused(.beforeCommit)
                    || phase == .recovering(.beforeCommit)
                ? (.failed(refusal), .resumeGuest)
                : phase == .none
                    ? (.none, .none)
                    : trouble(in: phase, phase.mayBeCancelled ? refusal : .peerMisbehaved)
            let early: [MigrationStatus] = [
                .setup, .active, .device, .postcopyDevice, .postcopyActive, .postcopyRecover,
            ]
            if early.contains(phase.status) {
                table[Pair(phase: phase, event: .shut(error: 0))] = trouble(
                    in: phase, .peerMisbehaved)
            }
            if [.setup, .active, .device].contains(phase.status) {
                table[Pair(phase: phase, event: .committed)] = trouble(in: phase, .peerMisbehaved)
            }
            let cancel: (SourcePhase, SourceAction) =
                phase.mayBeCancelled
                ? (.cancelled, trouble(in: phase, .linkLost).1)
                : (phase, [.failed, .cancelled].contains(phase.status) ? .none : .refuseCancel)
            table[Pair(phase: phase, event: .cancel)] = cancel
            if phase.status == .failed {
                table[Pair(phase: phase, event: .guestStopped)] = (phase, .resumeGuest)
            }
        }
        for (phase, event, next, action) in course {
            table[Pair(phase: phase, event: event)] = (next, action)
        }
        return table
    }

    @Test("every phase by every event does what the table says")
    func everyPair() throws {
        let table = Self.table()
        #expect(table.count == Self.phases.count * Self.events.count)
        for (pair, expected) in table {
            let step = pair.phase.after(pair.event)
            #expect(step.phase == expected.0, "\(pair)")
            #expect(step.action == expected.1, "\(pair)")
        }
    }
}

extension SourcePhase {
    /// Written anew for the tests: the phases before the package's first byte.
    fileprivate var mayBeCancelled: Bool {
        [.none, .setup, .active, .device].contains(status)
    }
}
