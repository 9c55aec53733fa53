import MigrationCore

/// Everything that can happen next in a `MigrationWorld`.
enum WorldStep: UInt8, CaseIterable {
    // The protocol takes its course.
    case connect, stopEnds, announcePackage, endPackage, sendPage, serveRequest, allPagesSent
    case readMain, readUrgent, readBack, allPlaced, loadSucceeds, answerPing, readRun
    case sourceSeesCut, destinationSeesCut
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
        case .answerPing where package == .ping:
            package = .run
            if mayCommit { write(.commit, to: \.back) }
        case .readRun where package == .run:
            package = .done
            tellDestination(.run, rules)
        case .sourceSeesCut where cut: tellSource(.linkLost, rules)
        case .destinationSeesCut where cut: tellDestination(.linkLost, rules)
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
        case .sourceLosesChannel: tellSource(.linkLost, rules)
        case .destinationLosesChannel: tellDestination(.linkLost, rules)
        case .sourceDeadline: tellSource(.deadlinePassed, rules)
        case .destinationDeadline: tellDestination(.deadlinePassed, rules)
        case .sourceReadsGarbage: tellSource(.peerMisbehaved, rules)
        case .destinationReadsGarbage: tellDestination(.peerMisbehaved, rules)
        default: return false
        }
        return true
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
        }
    }
}
