import MigrationCore

/// Everything that can happen next in a `MigrationWorld`.
enum WorldStep: UInt8, CaseIterable {
    // The protocol takes its course.
    case connect, stopEnds, announcePackage, endPackage, sendPage, serveRequest, allPagesSent
    case readMain, readUrgent, readBack, allPlaced, loadSucceeds, answerPing, readRun
    case reconnect, sourceSeesCut, destinationSeesCut
    // What may happen at any time, or never.
    case userStarts, restFits, trackingFails, userCancels, loadFails, loseMain, loseUrgent, loseBack
    case sourceLosesChannel, destinationLosesChannel, sourceDeadline, destinationDeadline
    case sourceReadsGarbage, destinationReadsGarbage

    /// Whether it happens by itself sooner or later, once it can.
    var isCourse: Bool { rawValue <= WorldStep.destinationSeesCut.rawValue }
}

extension MigrationWorld {
    /// The world after `step`, or `nil` when it cannot happen or changes nothing.
    func after(_ step: WorldStep, _ rules: Rules) -> MigrationWorld? {
        var next = self
        let happened = step.isCourse ? next.course(step, rules) : next.mishap(step, rules)
        return happened && next != self ? next : nil
    }

    /// From the package on, also before the commit: loading devices may need pages.
    private var servesRequests: Bool {
        source.status == .postcopyDevice || source.status == .postcopyActive
    }

    private mutating func course(_ step: WorldStep, _ rules: Rules) -> Bool {
        switch step {
        case .connect where source == .none: tellSource(.connected, rules)
        case .stopEnds where stopPending: tellSource(.guestStopped, rules)
        case .announcePackage where task == .announcePackage:
            task = .idle
            tellSource(.packageStarted, rules)
        case .endPackage where task == .endPackage:
            task = .idle
            tellSource(.packageSent, rules)
        case .sendPage where task == .pages && pagesOwed > 0: sendPage(on: \.main)
        case .serveRequest where servesRequests && pagesOwed > 0: sendPage(on: \.urgent)
        case .allPagesSent where task == .pages && pagesOwed == 0:
            task = .idle
            tellSource(.allPagesSent, rules)
        case .allPlaced where package != .none && pagesMissing == 0 && !placedTold:
            placedTold = true
            tellDestination(.allPagesPlaced, rules)
        case .loadSucceeds where package == .load:
            package = .ping
            tellDestination(.deviceLoaded, rules)
        case .answerPing where package == .ping && destination.name == .loaded:
            package = .run
            if mayCommit { write(.commit, to: \.back) }
        case .readRun where package == .run && destination.name == .loaded:
            package = .done
            tellDestination(.run, rules)
        case .reconnect where recovers && cut && source.status == .postcopyPaused: knock()
        case .sourceSeesCut where cut: tellSource(.linkLost, rules)
        case .destinationSeesCut where cut: tellDestination(interruption, rules)
        default: return read(step, rules)
        }
        return true
    }

    private mutating func read(_ step: WorldStep, _ rules: Rules) -> Bool {
        switch step {
        case .readMain:
            guard let message = main.first else { return false }
            main.removeFirst()
            deliver(message, rules)
        case .readUrgent where package != .none:
            guard let message = urgent.first else { return false }
            urgent.removeFirst()
            deliver(message, rules)
        case .readBack:
            guard let message = back.first else { return false }
            back.removeFirst()
            deliver(message, rules)
        default: return false
        }
        return true
    }

    private mutating func mishap(_ step: WorldStep, _ rules: Rules) -> Bool {
        switch step {
        case .userStarts: tellSource(.startPostcopy, rules)
        case .restFits: tellSource(.restFits, rules)
        case .trackingFails where source.status == .active || source == .device:
            tellSource(.trackingFailed, rules)
        case .userCancels: tellSource(.cancel, rules)
        case .loadFails where package == .load:
            package = .done
            tellDestination(.deviceRefused, rules)
        case .loseMain where cut && main.count > 0: main.removeLast()
        case .loseUrgent where cut && urgent.count > 0: urgent.removeLast()
        case .loseBack where cut && back.count > 0: back.removeLast()
        case .sourceLosesChannel: troubleSource(.linkLost, rules)
        case .destinationLosesChannel: troubleDestination(interruption, rules)
        case .sourceDeadline: troubleSource(.deadlinePassed, rules)
        case .destinationDeadline: troubleDestination(.deadlinePassed, rules)
        case .sourceReadsGarbage: troubleSource(.peerMisbehaved, rules)
        case .destinationReadsGarbage: troubleDestination(.peerMisbehaved, rules)
        default: return false
        }
        return true
    }

    /// A side that is paused has at most a link that is not yet judged, and lets go of that.
    private mutating func troubleSource(_ event: SourceEvent, _ rules: Rules) {
        tellSource(event, rules)
        if source.status == .postcopyPaused { cut = true }
    }

    private mutating func troubleDestination(_ event: DestinationEvent, _ rules: Rules) {
        tellDestination(event, rules)
        if destination.name == .paused { cut = true }
    }

    /// A new link: what was on the old one is read by nobody any more.
    private mutating func knock() {
        (main, urgent, back) = (Channel(), Channel(), Channel())
        cut = false
        write(.hello, to: \.main)
    }

    /// What a destination answers to a source that comes back.
    private mutating func welcome(_ rules: Rules) {
        if ![.paused, .completed, .failed].contains(destination.name) {
            // Its old link was up as far as it knew.
            tellDestination(interruption, rules)
            cut = false
        }
        switch destination {
        case .paused(let halt):
            write(halt == .running ? .answerRunning : .answerWaiting, to: \.back)
            tellDestination(.reconnected, rules)
        case .completed:
            write(.answerCompleted, to: \.back)
            cut = true
        default:
            write(.answerNeverRan, to: \.back)
            cut = true
        }
    }

    private mutating func sendPage(on channel: WritableKeyPath<MigrationWorld, Channel>) {
        pagesOwed -= 1
        write(.page, to: channel)
    }

    private mutating func deliver(_ message: Message, _ rules: Rules) {
        switch message {
        case .head: tellDestination(.headReceived, rules)
        case .openReturnPath: tellDestination(.returnPathOpened, rules)
        case .ping1: write(.pong1, to: \.back)
        case .advise: tellDestination(.advise, rules)
        case .blockList: tellDestination(.blockList, rules)
        case .discard: tellDestination(.discard(ranges: 1), rules)
        case .package: tellDestination(.listen, rules)
        case .page: pagesMissing -= 1
        case .end: tellDestination(.endOfStream, rules)
        case .pong1: tellSource(.returnPathAnswered, rules)
        case .commit: tellSource(.committed, rules)
        case .shutGood: tellSource(.shut(error: 0), rules)
        case .shutBad: tellSource(.shut(error: DestinationPhase.shutError), rules)
        default: recover(message, rules)
        }
    }

    private mutating func recover(_ message: Message, _ rules: Rules) {
        switch message {
        case .hello: welcome(rules)
        case .answerRunning:
            tellSource(.committed, rules)
            tellSource(.reconnected, rules)
        case .answerWaiting: tellSource(.reconnected, rules)
        case .answerCompleted: tellSource(.shut(error: 0), rules)
        case .answerNeverRan: tellSource(.shut(error: DestinationPhase.shutError), rules)
        case .askBitmap: tellDestination(.bitmapAsked, rules)
        case .bitmap:
            // No page comes between the bitmap and RESUME.
            pagesOwed = pagesMissing
            tellSource(.bitmapsReceived, rules)
        case .resume: tellDestination(.resume, rules)
        case .resumeAcknowledged: tellSource(.resumed, rules)
        default: preconditionFailure("\(message) belongs to the first link")
        }
    }
}
