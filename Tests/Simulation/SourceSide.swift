import MigrationCore
import PageModel
import StreamWire

/// What the source's threads share.
final class SourceSide {
    enum Mail {
        case event(SourceEvent)
        case answer(RecoveryAnswer)
        case ready
    }

    let world: World
    let blocks: [BlockGeometry]
    let listed: [ListedBlock]
    let dirty: [DirtyBitmap]
    let sent: [PageBitmap]
    let owed: OwedPages
    var queue: WatchedQueue
    var scanHint: HostPage?
    /// The discard that was said too late, and that the destination is to refuse.
    var lateDiscard: Trouble?
    /// The page records of each channel; a new link begins with neither block named.
    var mainEncoder: RAMRecordEncoder
    var urgentEncoder: RAMRecordEncoder
    var phase = SourcePhase.none
    var token: MigrationToken?
    var link: SourceLink?
    private(set) var mail: [Mail] = []
    private(set) var control: SourceControl!
    private(set) var sender: SourceSender!
    private(set) var returnPath: SourceReturn!

    /// The bound of the product's mailbox (`SourceState`), which `SimulationTests` compares.
    static let mailMax = 64
    static let section: UInt32 = 2

    init(_ world: World) {
        self.world = world
        blocks = world.scenario.blocks
        listed = blocks.map { ListedBlock($0) }
        dirty = blocks.map { DirtyBitmap(block: $0, allDirty: true) }
        sent = blocks.map { PageBitmap(pageCount: $0.targetPageCount, allSet: false) }
        owed = OwedPages(dirty, remaining: 0)
        queue = WatchedQueue(world, capacity: world.scenario.queueCapacity)
        mainEncoder = RAMRecordEncoder(blocks: blocks)
        urgentEncoder = RAMRecordEncoder(blocks: blocks)
        control = SourceControl(world)
        sender = SourceSender(world)
        returnPath = SourceReturn(world)
    }

    func begin() { control.goOn() }

    var hasEnded: Bool {
        switch phase {
        case .completed, .failed, .cancelled: control.isDone
        default: false
        }
    }

    var isRecovering: Bool {
        switch phase {
        case .recovering: true
        case .paused: link?.isResumed == true
        default: false
        }
    }

    var lastAttempt: UInt32 { control.attempt }

    func post(_ message: Mail) {
        mail.append(message)
        if mail.count > Self.mailMax {
            world.fail(
                "bounded queues stay bounded", "the source's control has \(mail.count) messages")
        }
        control.goOn()
    }

    func report(_ event: SourceEvent, _ why: @autoclosure () -> String) {
        world.note("source", "\(event): \(why())")
        post(.event(event))
    }

    func nextMail() -> Mail? { mail.isEmpty ? nil : mail.removeFirst() }

    func clearQueue() {
        while queue.pop() != nil {}
        scanHint = nil
    }

    /// Appends a claimed page to what goes out, as it is now.
    func append(
        _ pages: Range<Int>, of block: BlockIndex, _ encoder: inout RAMRecordEncoder,
        to output: inout [UInt8]
    ) {
        for page in pages {
            let offset = RAMOffset(rawValue: UInt64(page) << 12)
            let version = world.parts.guest.source[block.rawValue][page]
            if version == 0 {
                encoder.appendZeroPage(block: block, offset: offset, to: &output)
            } else {
                encoder.appendPageHeader(block: block, offset: offset, to: &output)
                PageBytes.append(version, to: &output)
            }
        }
    }
}

/// One link as the source's threads share it.
final class SourceLink {
    let main: Socket
    let attempt: UInt32
    var urgent: Socket?
    /// RESUME_ACK has come; the first link needs none.
    var isAcknowledged: Bool
    var mayServe = false
    var stopsSending = false
    /// Whoever writes or reads fails from now on.
    var isShutDown = false
    var endsUrgent = false
    var senderHasEnded = true
    var returnHasEnded = false
    var wroteMainAt: Int
    var isResumed: Bool { attempt > 0 }

    init(_ main: Socket, attempt: UInt32, now: Int) {
        self.main = main
        self.attempt = attempt
        isAcknowledged = attempt == 0
        wroteMainAt = now
    }
}
