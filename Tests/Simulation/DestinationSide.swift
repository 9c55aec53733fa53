import MigrationCore
import PageModel
import StreamWire

/// What the destination's threads share.
final class DestinationSide {
    enum Mail {
        case event(DestinationEvent)
        case perform(DestinationAction)
        case load(pings: [UInt32])
    }

    enum Outgoing {
        case message(ReturnPathMessage)
        case bitmap(BlockIndex)
        case resume
    }

    let world: World
    let blocks: [BlockGeometry]
    let demand: PageDemand
    let token: MigrationToken
    private(set) var phase = DestinationPhase.none
    var link: DestinationLink?
    private(set) var mail: [Mail] = []
    private(set) var outbox: [Outgoing] = []
    /// What the urgent channel brought, also of host pages that are not whole yet.
    var urgentTargetPages = 0
    private(set) var notices: [(block: BlockIndex, pages: Range<HostPageIndex>)] = []
    private(set) var fault: DestinationFault!
    private(set) var stream: DestinationStream!
    private(set) var control: DestinationControl!
    private(set) var loader: Loader!
    private(set) var door: Door!

    // The bounds of the product's mailboxes (`PostcopyRuntime`, `DestinationState`), which a simulator
    // of the core cannot reach: `SimulationTests` compares them. The outbox has room for a request of
    // each block's bitmap besides. That nobody fills one is the law; what a full one does is not here.
    static let mailMax = 64
    static let outboxBase = 100
    static let noticesMax = 1_024

    init(_ world: World) {
        self.world = world
        blocks = world.scenario.blocks
        demand = PageDemand(blocks: blocks, missing: 0)
        token = MigrationToken(high: world.scenario.token.high, low: world.scenario.token.low)
        control = DestinationControl(world, token)
        fault = DestinationFault(world, blocks)
        stream = DestinationStream(world, blocks)
        loader = Loader(world)
        door = Door(world)
    }

    var hasEnded: Bool {
        switch phase {
        // Nobody ever told it of a migration.
        case .completed, .failed, .none: link == nil
        default: false
        }
    }

    func advance(_ event: DestinationEvent) -> DestinationAction {
        let (next, action) = phase.after(event)
        if next != phase { world.note("destination", "\(event): \(next)") }
        let before = phase
        phase = next
        if case .failed = next, next != before { loader.giveUp() }
        return action
    }

    func commit() -> DestinationAction {
        let answer = advance(.deviceLoaded)
        return answer == .allowCommit ? advance(.run) : answer
    }

    func report(_ event: DestinationEvent, _ why: @autoclosure () -> String) {
        world.note("destination", "\(event): \(why())")
        post(.perform(advance(event)))
    }

    func post(_ message: Mail) {
        if case .perform(.none) = message { return }
        mail.append(message)
        limit(mail.count, Self.mailMax, "the destination's control")
        control.goOn()
    }

    func nextMail() -> Mail? { mail.isEmpty ? nil : mail.removeFirst() }

    func send(_ message: Outgoing) {
        outbox.append(message)
        limit(outbox.count, Self.outboxBase + blocks.count, "the outbox")
        fault.goOn()
    }

    func nextOutgoing() -> Outgoing? { outbox.isEmpty ? nil : outbox.removeFirst() }

    func clearOutbox() { outbox.removeAll() }

    func notify(_ block: BlockIndex, _ pages: Range<HostPageIndex>) {
        notices.append((block, pages))
        limit(notices.count, Self.noticesMax, "the notices")
        fault.goOn()
    }

    func nextNotice() -> (block: BlockIndex, pages: Range<HostPageIndex>)? {
        notices.isEmpty ? nil : notices.removeFirst()
    }

    private func limit(_ count: Int, _ most: Int, _ what: String) {
        guard count > most else { return }
        world.fail("bounded queues stay bounded", "\(what) has \(count) entries")
    }

    /// A placed page becomes a received one, in a step of its own.
    func settle(_ block: BlockIndex, _ pages: Range<HostPageIndex>) {
        if demand.settle(pages, of: block).isLast { post(.event(.allPagesPlaced)) }
    }

    /// Whether a page that came may be placed; it is not here because somebody asked.
    func admits(_ page: HostPage) -> Bool { demand.admits(page) }
}

/// One link as the destination's threads share it.
final class DestinationLink {
    let main: Socket
    let attempt: UInt32
    var urgent: Socket?
    var urgentBytes: [UInt8] = []
    var isEnding = false
    var streamHasEnded = false
    var faultHasLetGo = false
    /// RESUME_ACK is on its way; the first link needs none.
    var mayRequest: Bool

    init(_ main: Socket, attempt: UInt32) {
        self.main = main
        self.attempt = attempt
        mayRequest = attempt == 0
    }
}

/// Places what one channel brings: contiguous small pages together, larger ones whole.
struct Placer {
    struct Run {
        let block: Int
        let firstPage: Int
        var versions: [UInt64]
        let pagesPerHostPage: Int

        var pageCount: Int { versions.count / pagesPerHostPage }
        var pages: Range<HostPageIndex> {
            HostPageIndex(rawValue: firstPage)..<HostPageIndex(rawValue: firstPage + pageCount)
        }
    }

    private let blocks: [BlockGeometry]
    private let runPagesMax: Int
    private var staged: [UInt64]
    private var gathered: Run?
    /// Whole and not yet placed.
    private(set) var ready: [Run] = []

    init(_ blocks: [BlockGeometry], runPagesMax: Int) {
        self.blocks = blocks
        self.runPagesMax = runPagesMax
        staged = Array(repeating: 0, count: blocks.map(\.hostPage.targetPages).max() ?? 1)
    }

    mutating func drop() {
        gathered = nil
        ready = []
    }

    mutating func flush() {
        if let run = gathered { ready.append(run) }
        gathered = nil
    }

    mutating func takeReady() -> Run? { ready.isEmpty ? nil : ready.removeFirst() }

    mutating func add(
        _ outcome: HostPageAssembly.Outcome, _ version: UInt64, of block: BlockIndex,
        at offset: RAMOffset
    ) {
        let size = blocks[block.rawValue].hostPage.targetPages
        switch outcome {
        case .incomplete(let slot):
            flush()
            staged[slot >> 12] = version
        case .complete(let page, let slot) where size > 1:
            flush()
            staged[slot >> 12] = version
            ready.append(
                Run(
                    block: block.rawValue, firstPage: page.page.rawValue,
                    versions: Array(staged[..<size]), pagesPerHostPage: size))
        case .complete(let page, _):
            if let run = gathered, run.block == block.rawValue,
                run.firstPage + run.pageCount == page.page.rawValue, run.pageCount < runPagesMax
            {
                gathered?.versions.append(version)
            } else {
                flush()
                gathered = Run(
                    block: block.rawValue, firstPage: page.page.rawValue, versions: [version],
                    pagesPerHostPage: 1)
            }
        }
        if runPagesMax == 1 { flush() }
    }
}
