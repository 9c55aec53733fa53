import MigrationCore
import Testing

@Suite("DestinationPhase")
struct DestinationPhaseTests {
    typealias Progress = DestinationPhase.StreamProgress
    typealias Row = (DestinationPhase, DestinationEvent, DestinationPhase, DestinationAction)

    static let progresses: [Progress] = [.arriving, .ended, .placed, .endedAndPlaced]
    static let halts: [DestinationPhase.Halt] = [.loading, .loaded, .running]
    static let phases: [DestinationPhase] =
        [
            .none, .setup(returnPathOpen: false), .setup(returnPathOpen: true),
            .advised(blocksAgreed: false), .advised(blocksAgreed: true), .discarding(ranges: 5),
        ] + progresses.map { .listening($0) } + progresses.map { .loaded($0) } + [
            .running(allPagesPlaced: false), .running(allPagesPlaced: true), .streamEnded,
            .completed, .failed(.deviceRefused), .failed(.linkLost),
        ] + halts.map { .paused($0) } + halts.map { .recovering($0) }

    static let commands: [(event: DestinationEvent, name: CommandOutOfOrder.Command)] = [
        (.headReceived, .head), (.returnPathOpened, .openReturnPath), (.advise, .advise),
        (.blockList, .blockList), (.discard(ranges: 3), .discard), (.listen, .listen),
        (.run, .run), (.endOfStream, .endOfStream), (.bitmapAsked, .receivedBitmap),
        (.resume, .resume),
    ]
    static let reports: [DestinationEvent] = [
        .deviceLoaded, .deviceRefused, .allPagesPlaced, .reconnected, .givenUp,
    ]
    static let events: [DestinationEvent] =
        commands.map(\.event) + reports + [
            .linkLost, .linkInterrupted, .peerMisbehaved, .deadlinePassed,
        ]

    static let course: [Row] =
        [
            (.none, .headReceived, .setup(returnPathOpen: false), .none),
            (
                .setup(returnPathOpen: false), .returnPathOpened, .setup(returnPathOpen: true),
                .none
            ),
            (.setup(returnPathOpen: true), .advise, .advised(blocksAgreed: false), .prepareMemory),
            (.advised(blocksAgreed: false), .blockList, .advised(blocksAgreed: true), .none),
            (.advised(blocksAgreed: true), .blockList, .advised(blocksAgreed: true), .none),
            (
                .advised(blocksAgreed: true), .discard(ranges: 3), .discarding(ranges: 3),
                .dropRanges
            ),
            (.discarding(ranges: 5), .discard(ranges: 3), .discarding(ranges: 8), .dropRanges),
            (.advised(blocksAgreed: true), .listen, .listening(.arriving), .startListening),
            (.discarding(ranges: 5), .listen, .listening(.arriving), .startListening),
            (.listening(.arriving), .endOfStream, .listening(.ended), .none),
            (.listening(.placed), .endOfStream, .listening(.endedAndPlaced), .none),
            (.listening(.arriving), .allPagesPlaced, .listening(.placed), .none),
            (.listening(.ended), .allPagesPlaced, .listening(.endedAndPlaced), .none),
            (.loaded(.arriving), .endOfStream, .loaded(.ended), .none),
            (.loaded(.placed), .endOfStream, .loaded(.endedAndPlaced), .none),
            (.loaded(.arriving), .allPagesPlaced, .loaded(.placed), .none),
            (.loaded(.ended), .allPagesPlaced, .loaded(.endedAndPlaced), .none),
            (.loaded(.arriving), .run, .running(allPagesPlaced: false), .startGuest),
            (.loaded(.placed), .run, .running(allPagesPlaced: true), .startGuest),
            (.loaded(.ended), .run, .streamEnded, .startGuest),
            (.loaded(.endedAndPlaced), .run, .completed, .startGuestThenShut),
            (.running(allPagesPlaced: false), .endOfStream, .streamEnded, .awaitPages),
            (.running(allPagesPlaced: true), .endOfStream, .completed, .sendShut(error: 0)),
            (
                .running(allPagesPlaced: false), .allPagesPlaced, .running(allPagesPlaced: true),
                .none
            ),
            (
                .running(allPagesPlaced: true), .allPagesPlaced, .running(allPagesPlaced: true),
                .none
            ),
            (.streamEnded, .allPagesPlaced, .completed, .sendShut(error: 0)),
            (.paused(.loading), .deviceLoaded, .paused(.loaded), .none),
            (.recovering(.loading), .deviceLoaded, .recovering(.loaded), .none),
            (.paused(.loading), .deviceRefused, .failed(.deviceRefused), .closeStream),
            (.recovering(.loading), .deviceRefused, .failed(.deviceRefused), .sendShut(error: 1)),
            (.paused(.loading), .givenUp, .failed(.givenUp), .closeStream),
            (.paused(.loaded), .givenUp, .failed(.givenUp), .closeStream),
            (.recovering(.loading), .givenUp, .failed(.givenUp), .sendShut(error: 1)),
            (.recovering(.loaded), .givenUp, .failed(.givenUp), .sendShut(error: 1)),
            (.recovering(.loading), .resume, .listening(.arriving), .resumePages),
            (.recovering(.loaded), .resume, .loaded(.arriving), .resumePages),
            (.recovering(.running), .resume, .running(allPagesPlaced: false), .resumePages),
        ]
        + halts.flatMap { halt -> [Row] in
            [
                (.paused(halt), .reconnected, .recovering(halt), .none),
                (.recovering(halt), .bitmapAsked, .recovering(halt), .sendBitmap),
            ]
        }

    /// What trouble leads to; nobody can be told once the link is gone.
    static func trouble(
        in phase: DestinationPhase, _ failure: DestinationFailure
    ) -> (DestinationPhase, DestinationAction) {
        let told = failure != .linkLost
        switch phase.name {
        case .none: return (.failed(failure), .closeStream)
        case .setup where phase == .setup(returnPathOpen: false):
            return (.failed(failure), .closeStream)
        case .setup, .advised, .discarding, .listening:
            return (.failed(failure), told ? .sendShut(error: 1) : .closeStream)
        case .loaded: return (.paused(.loaded), .pause)
        case .running, .streamEnded: return (.paused(.running), .pause)
        case .recovering:
            let halt = halts.first { phase == .recovering($0) }
            return (.paused(halt ?? .loading), .pause)
        case .completed, .paused, .failed: return (phase, .none)
        }
    }

    static func expected(
        _ phase: DestinationPhase, _ event: DestinationEvent
    ) -> (DestinationPhase, DestinationAction) {
        if let row = course.first(where: { $0.0 == phase && $0.1 == event }) {
            return (row.2, row.3)
        }
        if event == .returnPathOpened && phase != .none { return (phase, .none) }
        if let command = commands.first(where: { $0.event == event }) {
            return trouble(in: phase, .outOfOrder(.init(command.name, in: phase.name)))
        }
        switch event {
        case .linkLost: return trouble(in: phase, .linkLost)
        case .linkInterrupted where phase.name == .listening: return (.paused(.loading), .pause)
        case .linkInterrupted: return trouble(in: phase, .linkLost)
        case .peerMisbehaved: return trouble(in: phase, .peerMisbehaved)
        case .deadlinePassed: return trouble(in: phase, .deadlinePassed)
        case .deviceLoaded:
            guard case .listening(let progress) = phase else { return (phase, .refuse) }
            return (.loaded(progress), .allowCommit)
        case .deviceRefused where phase.name == .listening:
            return trouble(in: phase, .deviceRefused)
        case .givenUp where phase.name == .listening: return trouble(in: phase, .givenUp)
        case .allPagesPlaced where phase.name == .listening || phase.name == .loaded:
            return (phase, .none)
        default: return (phase, .refuse)
        }
    }

    @Test("every phase by every event does what the table says")
    func everyPair() {
        for phase in Self.phases {
            for event in Self.events {
                let step = phase.after(event)
                let expected = Self.expected(phase, event)
                #expect(step.phase == expected.0, "\(phase) \(event)")
                #expect(step.action == expected.1, "\(phase) \(event)")
            }
        }
    }

    @Test("SHUT 0 comes with `completed` alone, and SHUT 1 only before the commit")
    func shut() {
        for phase in Self.phases {
            for event in Self.events {
                let step = phase.after(event)
                let good = step.action == .sendShut(error: 0) || step.action == .startGuestThenShut
                #expect(good == (step.phase == .completed && phase != .completed))
                if step.action == .sendShut(error: 1) {
                    #expect(step.phase.status == .failed && !phase.mayRunGuestHere)
                    #expect(phase.name != .loaded)
                }
            }
        }
    }

    @Test("the guest starts only by RUN behind loaded devices, and then stays")
    func guest() {
        for phase in Self.phases {
            for event in Self.events {
                let step = phase.after(event)
                if phase.mayRunGuestHere { #expect(step.phase.mayRunGuestHere) }
                guard !phase.mayRunGuestHere && step.phase.mayRunGuestHere else { continue }
                #expect(phase.name == .loaded && event == .run)
            }
        }
    }

    @Test("pages flow again only by RESUME inside a recovery, which keeps how far the guest was")
    func resuming() {
        for phase in Self.phases {
            for event in Self.events {
                let step = phase.after(event)
                guard step.action == .resumePages else { continue }
                #expect(phase.name == .recovering && event == .resume)
                #expect(step.phase.mayRunGuestHere == phase.mayRunGuestHere)
            }
        }
    }

    @Test("a link that breaks inside a recovery leads back to where the recovery began")
    func breaksInside() {
        for halt in Self.halts {
            for event in [DestinationEvent.linkLost, .linkInterrupted, .peerMisbehaved] {
                let step = DestinationPhase.paused(halt).after(.reconnected).phase.after(event)
                #expect(step.phase == .paused(halt) && step.action == .pause)
            }
        }
    }

    @Test("a failure says what came when, and that the guest never ran here")
    func descriptions() {
        let step = DestinationPhase.advised(blocksAgreed: true).after(.run)
        guard case .failed(let failure) = step.phase else {
            Issue.record("RUN before LISTEN must fail")
            return
        }
        #expect(failure.description == "RUN came in phase 'advised'; the guest never ran here")
        for other: DestinationFailure in [
            .linkLost, .deadlinePassed, .peerMisbehaved, .deviceRefused, .givenUp,
        ] {
            #expect(other.description.hasSuffix("the guest never ran here"))
        }
        #expect(DestinationPhase.streamEnded.name.description == "stream ended")
    }
}
