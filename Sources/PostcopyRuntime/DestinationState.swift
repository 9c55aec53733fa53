internal import FlightRecorder
internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import StreamWire
internal import Synchronization

/// Host pages that were just placed together.
struct PlacedRange: Sendable {
    let block: BlockIndex
    let pages: Range<HostPageIndex>
    let atNanoseconds: UInt64
}

/// What reaches the destination's control thread.
enum DestinationMessage: Sendable {
    case event(DestinationEvent)
    /// An event was applied elsewhere and left this to do.
    case perform(DestinationAction)
    /// The device sections of the package, and the PINGs behind them.
    case devices([UInt8], pings: [UInt32])
    /// The guest has taken its devices, or says why not.
    case loaded(GuestError?)
}

/// What reaches the fault thread for the return path.
enum Outgoing: Sendable {
    case message(ReturnPathMessage)
    /// The bitmap of a block as it is when it goes out.
    case receivedBitmap(BlockIndex)
    /// RESUME came: acknowledge it and ask again for what is waited for.
    case resume
}

/// Where a test holds a thread of a destination, to bring about what else takes luck.
///
/// Only points between which nothing is called that a test could hold otherwise: the kernel has done
/// its part, and the next word is one in this process's memory.
package enum HeldPoint: Sendable {
    /// The kernel has pages that are not yet noted as received.
    case placed
    /// RESUME_ACK and the requests for all that is waited for are about to be written.
    case resuming
}

/// The threads of a guest's vCPUs, from an instant on at which none of them ran yet.
struct NamedVCPUs: Sendable {
    let threads: [Int32]
    let atNanoseconds: UInt64
}

/// What the threads of a destination share, and nothing else.
final class DestinationState: Sendable {
    let guest: any Guest
    let options: MigrationOptions
    let blocks: [GuestRAM]
    let geometries: [BlockGeometry]
    let list: BlockList
    let uffd: Userfaultfd
    let demand: PageDemand
    /// Where pages go on to of a guest that leaves this host while it is arriving.
    let passage: PagePassage?
    let counters = DestinationCounters()
    let waits = WaitCounters()
    /// What to heal first; `nil` when nothing is to be.
    let firstFaults: FirstFaults?
    /// What was placed since faults are served.
    let placements = FlightStore<PlacementRecord>(capacity: 2 * PlacementRecorder.capacity)
    /// `nil` but in tests.
    let held: (@Sendable (HeldPoint) -> Void)?
    /// The guest's, asked for by the control thread before it starts the guest, and when.
    let vcpuThreads = Mutex<NamedVCPUs?>(nil)
    /// Raised once the fault thread has asked the kernel to time them.
    let vcpusNoted: EventFlag
    private let phase = Mutex(Phase())
    /// Raised when a status was entered.
    let statusFlags = StatusFlags()
    let recovery = DestinationRecovery()
    /// Other processes that share the guest's memory.
    let clients = ClientRegistry()
    /// On its way from the control thread to the fault thread.
    private let nextLink = Mutex<DestinationLink?>(nil)
    /// The id of the section `ram`, from LISTEN on.
    let ramSection = Atomic<UInt32>(0)
    /// Tells the fault thread to end once its outbox is empty.
    let isEnding = Atomic(false)
    /// Raised when the fault thread has written all it will write.
    let lastWordSent: EventFlag

    /// Wakes the control thread.
    let controlFlag: EventFlag
    let control: Mailbox<DestinationMessage>
    /// Wakes the fault thread, which alone writes the return path.
    let faultFlag: EventFlag
    let outbox: Mailbox<Outgoing>
    /// Pages that the stream thread placed while somebody waited for them.
    let notices: Mailbox<PlacedRange>
    /// Set by the stream thread where it had no room for a notice.
    let hasLostNotices = Atomic(false)

    private struct Phase {
        var current = DestinationPhase.none
        var log = PhaseLog()

        mutating func apply(
            _ event: DestinationEvent, problem: String?, at position: UInt64?
        ) -> DestinationAction {
            let (next, action) = current.after(event)
            if let problem { log.note(problem) }
            if next != current, next.isTrouble {
                if let command = event.command {
                    let error = CommandOutOfOrder(command, in: current.name)
                    let place = position.map { " (at byte \($0) of the channel)" } ?? ""
                    log.note("the source broke the protocol: \(error)\(place)")
                } else if case .failed(let failure) = next {
                    log.note(failure.description)
                }
            }
            current = next
            log.enter(next.status)
            if event == .resume, !next.isTrouble { log.forgetProblem() }
            return action
        }
    }

    /// A source sends five PINGs and a few a second while it waits: a hundred unanswered are hostile.
    /// In a recovery it asks for each block's bitmap besides.
    private static let outboxCapacity = 100
    /// One message for each command of the stream and each thread's end.
    private static let controlCapacity = 64
    /// Each stands for at least one waiting thread, of which blocktime tracks 1,024.
    private static let noticeCapacity = 1_024

    init(
        guest: any Guest, options: MigrationOptions, passage: PagePassage?,
        held: (@Sendable (HeldPoint) -> Void)?
    ) throws {
        self.guest = guest
        self.options = options
        self.passage = passage
        self.held = held
        blocks = guest.memory
        geometries = guest.memory.map(\.geometry)
        list = BlockList(of: guest, options)
        try ConfigurationError.checkPlaces(of: list)
        demand = PageDemand(blocks: geometries, missing: list.hostPageCount)
        firstFaults = options.heals ? FirstFaults(of: guest.memory) : nil
        uffd = try Userfaultfd.open(guest.faultOrigin)
        controlFlag = try EventFlag()
        control = Mailbox(capacity: Self.controlCapacity, flag: controlFlag)
        faultFlag = try passage?.requestFlag ?? EventFlag()
        outbox = Mailbox(
            capacity: Self.outboxCapacity + guest.memory.count, flag: faultFlag)
        lastWordSent = try EventFlag()
        vcpusNoted = try EventFlag()
        notices = Mailbox(capacity: Self.noticeCapacity, flag: faultFlag)
    }

    var totalHostPages: Int { list.hostPageCount }

    var log: PhaseLog { phase.withLock { $0.log } }

    var currentPhase: DestinationPhase { phase.withLock { $0.current } }

    /// Applies an event; the caller performs the action or hands it to the control thread.
    ///
    /// - Parameter position: where the stream brought the event; names the place in a refusal.
    func advance(
        _ event: DestinationEvent, problem: String? = nil, at position: UInt64? = nil
    ) -> DestinationAction {
        let (action, hasFailed) = change { phase in
            let before = phase.current
            let action = phase.apply(event, problem: problem, at: position)
            return (action, phase.current.hasFailed && !before.hasFailed)
        }
        if hasFailed { endFaults() }
        return action
    }

    /// The devices are loaded and the guest runs here, in one step: a link that is lost between them
    /// would leave a guest that was promised to run and does not.
    func commit() -> DestinationAction {
        change { phase in
            let answer = phase.apply(.deviceLoaded, problem: nil, at: nil)
            guard answer == .allowCommit else { return answer }
            return phase.apply(.run, problem: nil, at: nil)
        }
    }

    /// Changes the phase, and tells those who look on when it has another status.
    private func change<Answer>(_ body: (inout Phase) -> Answer) -> Answer {
        let (answer, isNews) = phase.withLock { phase in
            let before = phase.log.changeCount
            let answer = body(&phase)
            return (answer, phase.log.changeCount != before)
        }
        if isNews { statusFlags.raise() }
        return answer
    }

    /// Whether the source is one of this library, which can come back by itself.
    var isSourceOurs: Bool { recovery.isAsked.load(ordering: .acquiring) }

    /// Whether a link that breaks between LISTEN and the commit is worth keeping the guest for. A QEMU
    /// source may run its guest again then; this one does not start before that source has resumed.
    private var canResume: Bool { options.recovery.mode != .none }

    /// What the loss of a channel is to the phases.
    var linkLoss: DestinationEvent { canResume ? .linkInterrupted : .linkLost }
    /// The same while the main channel holds, on which the source can be told.
    var urgentLoss: DestinationEvent { canResume ? .linkInterrupted : .peerMisbehaved }
    /// Silence on the main channel.
    var silence: DestinationEvent { canResume ? .linkInterrupted : .deadlinePassed }

    func offer(_ link: DestinationLink) {
        nextLink.withLock { $0 = link }
        faultFlag.raise()
    }

    func takeLink() -> DestinationLink? { nextLink.withLock { $0.take() } }

    /// Ends this migration's channels, at once: the guest may be loading its devices and need a page
    /// that will never come.
    func report(_ event: DestinationEvent, problem: String) {
        control.post(.perform(advance(event, problem: problem)))
    }

    /// Gives up a guest that does not run here yet; afterwards it has no effect.
    func cancel() {
        let action: DestinationAction? = change { phase in
            switch phase.current {
            case .none, .setup, .advised, .discarding, .listening:
                phase.apply(.peerMisbehaved, problem: "cancelled", at: nil)
            case .paused(.loading), .paused(.loaded), .recovering(.loading), .recovering(.loaded):
                giveUp(&phase)
            case .loaded, .running, .streamEnded, .completed, .paused, .recovering, .failed: nil
            }
        }
        guard let action else { return }
        endFaults()
        control.post(.perform(action))
    }

    private func giveUp(_ phase: inout Phase) -> DestinationAction {
        recovery.isGivenUp.store(true, ordering: .relaxed)
        return phase.apply(.givenUp, problem: "cancelled", at: nil)
    }

    /// Ends the reports of missing pages, and lets lengths change. Whoever waits for pages of a guest
    /// that will not run here is woken, and reads zeros.
    func endFaults() {
        // A block that is not registered yet has nobody waiting in it.
        for (_, ram) in list.sent { try? uffd.unregister(ram) }
        releaseClients()
        list.thawLengths()
    }

    /// Marks placed pages received. The last one is news for the control thread.
    func settle(_ placed: PlacedRange) {
        held?(.placed)
        let (_, isLast) = demand.settle(placed.pages, of: placed.block)
        recovery.notePage(at: placed.atNanoseconds)
        passage?.note(placed.pages, of: placed.block)
        if isLast { control.post(.event(.allPagesPlaced)) }
    }

    /// What has not come, by block.
    var missingPages: [MissingPages] {
        list.sent.compactMap { index, ram in
            let missing = ram.usedHostPages - demand.received[index.rawValue].placedCount
            guard missing > 0 else { return nil }
            return MissingPages(
                block: ram.geometry.name, hostPages: missing,
                bytes: UInt64(missing) << UInt64(ram.geometry.hostPage.shift))
        }
    }

    /// Makes every missing page one whose content is lost for good: whoever waits for one, or touches
    /// one later, gets a memory error.
    /// - Throws: where the kernel has no such thing, or no memory for it; what is left reads as zeros once
    ///   faults have ended.
    func poisonMissing() throws(Errno) {
        try forEachMissing { pages, _, ram throws(Errno) in try uffd.poison(pages, of: ram) }
    }

    /// Calls `body` with each run of missing pages.
    func forEachMissing<Failure: Error>(
        _ body: (Range<HostPageIndex>, BlockIndex, GuestRAM) throws(Failure) -> Void
    ) throws(Failure) {
        for (index, ram) in list.sent {
            var page = HostPageIndex(rawValue: 0)
            // What lies behind the used length is not registered, and nobody's.
            let end = HostPageIndex(rawValue: ram.usedHostPages)
            while page < end,
                let run = demand.received[index.rawValue].nextMissing(from: page),
                run.lowerBound < end
            {
                try body(run.lowerBound..<min(run.upperBound, end), index, ram)
                page = run.upperBound
            }
        }
    }

    /// Where an address lies among the RAM blocks.
    func hostPage(at address: HostAddress) -> HostPage? {
        for (index, block) in blocks.enumerated() {
            guard let offset = block.offset(of: address) else { continue }
            return HostPage(
                block: BlockIndex(rawValue: index),
                page: block.geometry.hostPage(containing: offset))
        }
        return nil
    }
}

extension DestinationPhase {
    /// Whether the guest will never run here.
    var hasFailed: Bool {
        if case .failed = self { return true }
        return false
    }

    /// Whether the migration has ended and not well.
    var isTrouble: Bool {
        if case .paused = self { return true }
        return hasFailed
    }
}

extension DestinationEvent {
    /// The command that it stands for; `nil` for a report of this side.
    var command: CommandOutOfOrder.Command? {
        switch self {
        case .headReceived: .head
        case .returnPathOpened: .openReturnPath
        case .advise: .advise
        case .blockList: .blockList
        case .discard: .discard
        case .listen: .listen
        case .run: .run
        case .endOfStream: .endOfStream
        case .bitmapAsked: .receivedBitmap
        case .resume: .resume
        case .deviceLoaded, .deviceRefused, .allPagesPlaced, .linkLost, .linkInterrupted,
            .reconnected, .givenUp, .peerMisbehaved, .deadlinePassed:
            nil
        }
    }
}

/// Counts for progress and reports. Relaxed: none of them orders anything.
final class DestinationCounters: Sendable {
    let receivedBytes = Atomic<UInt64>(0)
    let backgroundPages = Atomic<UInt64>(0)
    let urgentPages = Atomic<UInt64>(0)
    let zeroPages = Atomic<UInt64>(0)
    /// Target pages that the urgent channel brought, also those of a host page that is not whole yet.
    let urgentTargetPages = Atomic<UInt64>(0)
    let requests = Atomic<UInt64>(0)
    let faults = Atomic<UInt64>(0)
    let otherMigrations = Atomic<UInt64>(0)
    /// When the source was last heard on any channel.
    let heardAtNanoseconds = Atomic<UInt64>(0)

    func noteReceived(_ bytes: Int) {
        receivedBytes.add(UInt64(bytes), ordering: .relaxed)
        heardAtNanoseconds.store(Monotonic.now(), ordering: .relaxed)
    }
}
