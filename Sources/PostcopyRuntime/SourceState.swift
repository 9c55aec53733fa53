internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// What reaches the source's control thread.
struct SourceMessage: Sendable {
    let event: SourceEvent
    /// The number of the link that it is about; `nil` for what holds whatever the link.
    let link: UInt32?
    /// What went wrong, for the user; `nil` for news that are no trouble.
    let problem: String?
}

/// What the threads of a source share, and nothing else.
final class SourceState: Sendable {
    let guest: any Guest
    let options: MigrationOptions
    let blocks: [GuestRAM]
    let geometries: [BlockGeometry]
    let list: BlockList
    /// The used lengths that the destination was told last.
    let listedBytes = Mutex<[UInt64]>([])
    /// Pages owed; all senders claim from it.
    let owed: OwedPages
    /// `nil` where memory moves only once the guest has.
    let precopy: Precopy?
    /// Where the pages come from of a guest that is itself still arriving; `nil` where all are here.
    let passage: PagePassage?
    /// The id of the section `ram`.
    let ramSection: UInt32
    let counters = SourceCounters()
    /// Requests that the background sender serves; unused with an urgent channel.
    let queue = Mutex(PageRequestQueue())
    /// The page last requested: the background goes on behind it, since what a guest touches next is
    /// often near.
    let scanHint = PageWord()
    /// Whether requests may be answered yet.
    let mayServe = Atomic(false)
    /// Whether the destination runs the guest.
    let isCommitted = Atomic(false)
    /// Tells the thread that sends on the main channel to stop between two writes; it is to be woken
    /// then.
    let stopsSending = Atomic(false)
    /// Since the guest was asked to stop. Behind a migration that did not wait for that, it may go on.
    let guestStop = Mutex<GuestStop?>(nil)
    let limits: LimitsInForce
    /// What was done about requests.
    let services = FlightStore<ServiceRecord>(capacity: ServiceRecorder.capacity)
    /// The huge page that the background is sending in pieces.
    let inPieces = PageWord()
    let recovery: SourceRecovery
    private let pingInterval: Atomic<UInt64>

    /// Wakes the control thread.
    let controlFlag: EventFlag
    let control: Mailbox<SourceMessage>
    /// Wakes the return-path thread.
    let returnPathFlag: EventFlag

    /// For the user's wishes, each of which says the same the second time.
    private static let controlCapacity = 64

    /// - Throws: `TrackerRefusal`, or `Errno` when no descriptor is left.
    init(guest: any Guest, options: MigrationOptions, passage: PagePassage?) throws {
        self.guest = guest
        self.options = options
        self.passage = passage
        ramSection = guest.streamIdentity.ramSection
        blocks = guest.memory
        geometries = guest.memory.map(\.geometry)
        let list = BlockList(of: guest, options)
        self.list = list
        let dirty =
            passage?.sendable
            ?? guest.memory.map {
                DirtyBitmap(block: $0.geometry, allDirty: !list.isIgnored($0))
            }
        owed = OwedPages(
            dirty,
            remaining: passage == nil
                ? dirty.reduce(0) { $0 + $1.dirtyCount } : list.targetPageCount)
        precopy = try options.precopy.map {
            try Precopy(guest: guest, list: list, options: $0)
        }
        controlFlag = try EventFlag()
        control = Mailbox(capacity: Self.controlCapacity, flag: controlFlag)
        returnPathFlag = try passage?.arrivalFlag ?? EventFlag()
        limits = try LimitsInForce(options)
        recovery = SourceRecovery(
            isOffered: options.recovery.mode != .none && !options.releasesRAM && passage == nil,
            flag: controlFlag)
        pingInterval = Atomic(min(Self.pingNanosecondsMax, options.silenceNanosecondsMax / 4))
        _ = beginList()
        passage?.restart()
    }

    /// What the destination must not use of what it has: what is owed. Of a guest that is itself
    /// still arriving nothing was sent, and everything is owed.
    var discards: [DirtyBitmap] {
        passage == nil ? dirty : geometries.map { DirtyBitmap(block: $0, allDirty: true) }
    }

    var dirty: [DirtyBitmap] { owed.bitmaps }

    var pace: PacedSending { limits.pace }

    /// Whether the guest still has the RAM blocks that it had when the source was made.
    var hasSameMemory: Bool { guest.memory.elementsEqual(blocks, by: ===) }

    var totalPages: Int { list.targetPageCount }
    var totalBytes: UInt64 { UInt64(totalPages) << UInt64(PageSize.target.shift) }
    var remainingBytes: UInt64 {
        let pages = owed.remaining.load(ordering: .relaxed)
        return UInt64(max(0, pages)) << UInt64(PageSize.target.shift)
    }

    /// A source that has nothing to write shows four times a second that it lives, and hears that the
    /// destination does: also to one that allows a second of silence. Since `keepBeat`, more often.
    var pingNanoseconds: UInt64 { pingInterval.load(ordering: .relaxed) }
    private static let pingNanosecondsMax: UInt64 = 250_000_000

    /// How often either end writes on each channel once the guest moves, between two of ours.
    var beatNanoseconds: UInt64 { options.beatNanoseconds }

    /// From here on the destination judges the link by its silence.
    func keepBeat() {
        pingInterval.store(min(pingNanoseconds, beatNanoseconds), ordering: .relaxed)
    }

    /// Reports what happened on a link: nothing, once there is another.
    func report(_ event: SourceEvent, problem: String? = nil, of link: SourceLink) {
        control.post(SourceMessage(event: event, link: link.number, problem: problem))
    }

    func wish(_ event: SourceEvent) {
        control.offer(SourceMessage(event: event, link: nil, problem: nil))
    }

    /// Forgets what a broken link left: the destination asks again. Nobody else may be at work.
    func clearRequests() {
        mayServe.store(false, ordering: .releasing)
        stopsSending.store(false, ordering: .releasing)
        queue.withLock { $0 = PageRequestQueue() }
        _ = scanHint.take()
    }

    /// Takes a requested host page for sending; `false` when it was sent or is on its way.
    func claim(_ page: HostPage) -> Bool {
        guard owed.claim(page) else { return false }
        // The background sender need not wait to say that nothing is owed.
        if owed.remaining.load(ordering: .relaxed) == 0 { wakeSender() }
        return true
    }

    /// Ends a wait of the thread that sends on the main channel.
    func wakeSender() {
        pace.wake()
        passage?.senderFlag.raise()
    }

    /// Counts what was written because somebody waits for it.
    func noteUrgent(bytes: Int) {
        counters.urgentBytes.add(UInt64(bytes), ordering: .relaxed)
        pace.noteUrgent(bytes)
    }
}

/// Which part of the migration bytes belong to.
enum SendingStage: Int, Sendable {
    case precopy
    case downtime
    case postcopy
}

/// Counts for progress and reports. Relaxed: none of them orders anything.
final class SourceCounters: Sendable {
    let normalPages = Atomic<UInt64>(0)
    let zeroPages = Atomic<UInt64>(0)
    let urgentPages = Atomic<UInt64>(0)
    let releasedBytes = Atomic<UInt64>(0)
    let urgentBytes = Atomic<UInt64>(0)
    let requests = Atomic<UInt64>(0)
    private let stage = Atomic(SendingStage.precopy.rawValue)
    private let precopyBytes = Atomic<UInt64>(0)
    private let downtimeBytes = Atomic<UInt64>(0)
    private let postcopyBytes = Atomic<UInt64>(0)
    /// When the destination was last heard.
    let heardAtNanoseconds = Atomic<UInt64>(0)

    var sentPages: UInt64 {
        normalPages.load(ordering: .relaxed) + zeroPages.load(ordering: .relaxed)
    }

    func enter(_ stage: SendingStage) { self.stage.store(stage.rawValue, ordering: .relaxed) }

    func addSent(_ bytes: Int) {
        let bytes = UInt64(bytes)
        switch SendingStage(rawValue: stage.load(ordering: .relaxed)) {
        case .downtime: downtimeBytes.add(bytes, ordering: .relaxed)
        case .postcopy: postcopyBytes.add(bytes, ordering: .relaxed)
        case .precopy, nil: precopyBytes.add(bytes, ordering: .relaxed)
        }
    }

    var sentBytes: SentBytes {
        var sent = SentBytes()
        sent.precopy = precopyBytes.load(ordering: .relaxed)
        sent.downtime = downtimeBytes.load(ordering: .relaxed)
        sent.postcopy = postcopyBytes.load(ordering: .relaxed)
        return sent
    }
}

/// A host page, or none, that one thread leaves for another: in one word, so that nobody needs a lock.
final class PageWord: Sendable {
    private let word = Atomic<UInt64>(0)
    private static let pageBits: UInt64 = 48

    private static func word(of page: HostPage) -> UInt64 {
        UInt64(page.block.rawValue + 1) << pageBits | UInt64(page.page.rawValue)
    }

    func leave(_ page: HostPage) { word.store(Self.word(of: page), ordering: .relaxed) }

    func clear() { word.store(0, ordering: .relaxed) }

    func holds(_ page: HostPage) -> Bool {
        word.load(ordering: .relaxed) == Self.word(of: page)
    }

    func take() -> HostPage? {
        // An exchange locks the word's cache line: only when there is something to take.
        guard word.load(ordering: .relaxed) != 0 else { return nil }
        let taken = word.exchange(0, ordering: .relaxed)
        guard taken != 0 else { return nil }
        let page = taken & (1 << Self.pageBits - 1)
        return HostPage(
            block: BlockIndex(rawValue: Int(taken >> Self.pageBits) - 1),
            page: HostPageIndex(rawValue: Int(page)))
    }
}
