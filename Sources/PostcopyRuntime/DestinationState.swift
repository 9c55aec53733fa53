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
}

/// What the threads of a destination share, and nothing else.
final class DestinationState: Sendable {
    let guest: any Guest
    let options: MigrationOptions
    let blocks: [GuestRAM]
    let geometries: [BlockGeometry]
    let uffd: Userfaultfd
    /// Set by placers, read by all.
    let received: [ReceivedBitmap]
    /// Changed by the fault thread alone, read by placers.
    let requested: [RequestedPages]
    let counters = DestinationCounters()
    private let phase = Mutex(Phase())

    /// Wakes the control thread.
    let controlFlag: EventFlag
    let control: Mailbox<DestinationMessage>
    /// Wakes the fault thread, which alone writes the return path.
    let faultFlag: EventFlag
    let outbox: Mailbox<ReturnPathMessage>
    /// Pages that the stream thread placed while somebody waited for them.
    let notices: Mailbox<PlacedRange>

    private struct Phase {
        var current = DestinationPhase.none
        var log = PhaseLog()
    }

    /// A source sends five PINGs and one a second while it waits: a hundred unanswered are hostile.
    private static let outboxCapacity = 100
    /// One message for each command of the stream and each thread's end.
    private static let controlCapacity = 64
    /// Each stands for at least one waiting thread, of which blocktime tracks 1,024.
    private static let noticeCapacity = 1_024

    init(guest: any Guest, options: MigrationOptions) throws {
        self.guest = guest
        self.options = options
        blocks = guest.memory
        geometries = guest.memory.map(\.geometry)
        received = geometries.map(ReceivedBitmap.init(block:))
        requested = geometries.map(RequestedPages.init(block:))
        uffd = try Userfaultfd.open(guest.faultOrigin)
        controlFlag = try EventFlag()
        control = Mailbox(capacity: Self.controlCapacity, flag: controlFlag)
        faultFlag = try EventFlag()
        outbox = Mailbox(capacity: Self.outboxCapacity, flag: faultFlag)
        notices = Mailbox(capacity: Self.noticeCapacity, flag: faultFlag)
        let total = geometries.reduce(0) { $0 + $1.hostPageCount }
        counters.missingPages.store(total, ordering: .relaxed)
    }

    var totalHostPages: Int { geometries.reduce(0) { $0 + $1.hostPageCount } }

    var log: PhaseLog { phase.withLock { $0.log } }

    var currentPhase: DestinationPhase { phase.withLock { $0.current } }

    /// Applies an event; the caller performs the action or hands it to the control thread.
    func advance(_ event: DestinationEvent) -> DestinationAction {
        phase.withLock { phase in
            let (next, action) = phase.current.after(event)
            if case .failed(let failure) = next { phase.log.note(failure.description) }
            phase.current = next
            phase.log.enter(next.status)
            return action
        }
    }

    /// Tells the control thread that something ended this migration's channels.
    func report(_ event: DestinationEvent, problem: String) {
        phase.withLock { $0.log.note(problem) }
        control.post(.event(event))
    }

    /// Marks placed pages received. The last one is news for the control thread.
    func settle(_ placed: PlacedRange) {
        let new = received[placed.block.rawValue].insert(placed.pages)
        let before = counters.missingPages.subtract(new, ordering: .relaxed).oldValue
        if new > 0, before == new { control.post(.event(.allPagesPlaced)) }
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

/// Counts for progress and reports. Relaxed: none of them orders anything.
final class DestinationCounters: Sendable {
    let missingPages = Atomic(0)
    let receivedBytes = Atomic<UInt64>(0)
    let backgroundPages = Atomic<UInt64>(0)
    let urgentPages = Atomic<UInt64>(0)
    let zeroPages = Atomic<UInt64>(0)
    let requests = Atomic<UInt64>(0)
    let faults = Atomic<UInt64>(0)
}
