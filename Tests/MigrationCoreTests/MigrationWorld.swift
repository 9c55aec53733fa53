import MigrationCore

/// The machines under test; a test may put a wrong one in to see the explorer find it.
struct Rules {
    var source: (SourcePhase, SourceEvent) -> SourcePhase.Step = { $0.after($1) }
    var destination: (DestinationPhase, DestinationEvent) -> DestinationPhase.Step = {
        $0.after($1)
    }
}

/// What travels, both ways.
enum Message: UInt8 {
    case head, openReturnPath, ping1, advise, blockList, discard, package, page, end
    case pong1, commit, shutGood, shutBad
    // A link that comes back.
    case hello, answerWaiting, answerRunning, answerCompleted, answerNeverRan
    case askBitmap, bitmap, resume, resumeAcknowledged
}

/// A first-in, first-out channel of at most 12 messages, packed so that a state hashes quickly.
struct Channel: Hashable {
    private var bits: UInt64 = 0
    private(set) var count: UInt8 = 0

    var first: Message? { count == 0 ? nil : Message(rawValue: UInt8(bits & 31)) }

    mutating func append(_ message: Message) {
        precondition(count < 12)
        bits |= UInt64(message.rawValue) << UInt64(count * 5)
        count += 1
    }

    mutating func removeFirst() {
        bits >>= 5
        count -= 1
    }

    mutating func removeLast() {
        count -= 1
        bits &= (1 << UInt64(count * 5)) &- 1
    }
}

/// Both machines, their guests and the channels between them: one state of the exploration.
struct MigrationWorld: Hashable {
    /// What the source's runtime does next by itself.
    enum SourceTask: UInt8 { case idle, announcePackage, endPackage, pages }
    /// How far the destination's package is carried out.
    enum PackageStep: UInt8 { case none, load, ping, run, done }

    var source = SourcePhase.none
    var destination = DestinationPhase.none
    var guestRunsAtSource = true
    var guestRunsAtDestination = false
    var stopPending = false
    var task = SourceTask.idle
    var package = PackageStep.none
    /// `allowCommit` was seen.
    var mayCommit = false
    var pagesOwed: UInt8
    var pagesMissing: UInt8
    /// The destination was told that no page is missing.
    var placedTold = false
    var main = Channel()
    var urgent = Channel()
    var back = Channel()
    /// Nothing more enters a channel, and what is in it may be lost from its end.
    var cut = false
    /// The source knocks again when its link is gone.
    let recovers: Bool
    /// The source was told to keep a guest running that it had asked to stop.
    var keptStoppingGuest = false

    init(pages: UInt8, recovers: Bool) {
        self.recovers = recovers
        pagesOwed = pages
        pagesMissing = pages
    }

    mutating func tellSource(_ event: SourceEvent, _ rules: Rules) {
        if event == .guestStopped {
            stopPending = false
            guestRunsAtSource = false
        }
        let step = rules.source(source, event)
        source = step.phase
        switch step.action {
        case .none, .refuse, .refuseCancel, .awaitStart, .awaitCommit: break
        case .sendSetup:
            for message: Message in [.head, .openReturnPath, .ping1, .advise, .blockList] {
                write(message, to: \.main)
            }
        case .stopGuest: stopPending = true
        case .sendDiscards:
            write(.discard, to: \.main)
            task = .announcePackage
        case .sendRest:
            for _ in 0..<pagesOwed { write(.page, to: \.main) }
            pagesOwed = 0
            task = .announcePackage
        case .sendPackage:
            write(.package, to: \.main)
            task = .endPackage
        case .streamPages: task = .pages
        case .sendEnd: write(.end, to: \.main)
        case .keepGuestRunning:
            keptStoppingGuest = stopPending || !guestRunsAtSource
            cut = true
        case .resumeGuest:
            guestRunsAtSource = true
            cut = true
        case .finish: cut = true
        case .pause:
            cut = true
            task = .idle
        case .askBitmaps: write(.askBitmap, to: \.main)
        case .sendResume: write(.resume, to: \.main)
        }
    }

    mutating func tellDestination(_ event: DestinationEvent, _ rules: Rules) {
        let step = rules.destination(destination, event)
        destination = step.phase
        switch step.action {
        case .none, .refuse, .prepareMemory, .dropRanges, .awaitPages: break
        case .startListening: package = .load
        case .allowCommit: mayCommit = true
        case .startGuest: guestRunsAtDestination = true
        case .startGuestThenShut:
            guestRunsAtDestination = true
            write(.shutGood, to: \.back)
            cut = true
        case .sendShut(let error):
            write(error == 0 ? .shutGood : .shutBad, to: \.back)
            cut = true
        case .closeStream, .pause: cut = true
        case .sendBitmap: write(.bitmap, to: \.back)
        case .resumePages:
            write(.resumeAcknowledged, to: \.back)
            placedTold = false
            // The package's end is obeyed again: it may have been lost on the way back.
            if destination.name == .loaded {
                mayCommit = true
                package = .ping
            }
        }
    }

    /// What a destination hears when its link goes.
    var interruption: DestinationEvent { recovers ? .linkInterrupted : .linkLost }

    mutating func write(_ message: Message, to channel: WritableKeyPath<MigrationWorld, Channel>) {
        if !cut { self[keyPath: channel].append(message) }
    }
}
