import MigrationCore
import PageModel
import StreamWire

/// Something that is done once, later.
final class Errand: Worker {
    private var body: (() -> Void)?

    init(_ world: World, _ side: Side, at instant: Int, _ body: @escaping () -> Void) {
        self.body = body
        super.init(world, "errand", side)
        goOn(at: instant)
    }

    override func step() {
        let body = body.take()
        body?()
    }
}

/// The destination's listener, as the network sees it.
final class Door {
    private let world: World
    private var arrivals: [Connection] = []
    /// The source's, the newest last.
    private(set) var connections: [Connection] = []
    /// Until when nobody gets in; whether they are told so.
    var refusesUntil = 0
    var isSilent = false
    /// How long the bytes of the source's next connection take.
    var nextDelay: Int?

    init(_ world: World) { self.world = world }

    func nextArrival() -> Connection? { arrivals.isEmpty ? nil : arrivals.removeFirst() }

    var live: [Connection] {
        connections.removeAll(where: \.isDone)
        return connections.filter { !$0.isClosed[0] && !$0.pipes[0].isCut }
    }

    func connect(isSource: Bool, worker: Worker, _ done: @escaping (Socket?) -> Void) {
        let arrival = world.now + world.delay()
        guard world.now >= refusesUntil else {
            let told = isSilent ? world.now + Time.second : arrival + world.delay()
            _ = Errand(world, worker.side, at: told) { done(nil) }
            return
        }
        let connection = Connection(world, isSource: isSource)
        if isSource {
            connections.append(connection)
            // The cut before it is the fault that counts.
            if let delay = nextDelay.take() {
                connection.pipes[0].stall(until: world.now + delay, nil)
            }
        }
        _ = Errand(world, .nobody, at: arrival) { [self] in
            arrivals.append(connection)
            world.parts.destination.control.goOn()
        }
        _ = Errand(world, worker.side, at: arrival + world.delay()) {
            done(Socket(connection: connection, end: 0))
        }
    }
}

/// One fault that was brought. It counts from when something came otherwise by it, and once.
final class Trouble {
    private let world: World
    private let kind: Fault.Kind
    private var hasTouched = false

    init(_ world: World, _ kind: Fault.Kind) {
        self.world = world
        self.kind = kind
    }

    /// Something is late, lost or refused that would not be without it.
    func touch() {
        guard !hasTouched else { return }
        hasTouched = true
        world.note("fault", "\(kind) tells")
        world.tally.faults["\(kind)", default: 0] += 1
        // Who is turned away at the door is no trouble to a migration.
        guard kind != .stranger else { return }
        world.parts.saboteur.hasTouched = true
        if world.parts.source.isRecovering { world.tally.insideRecovery += 1 }
    }
}

/// Brings what goes wrong.
final class Saboteur {
    private let world: World
    private var pending: [Fault]
    /// Whether this migration had a fault that it felt.
    fileprivate(set) var hasTouched = false

    init(_ world: World) {
        self.world = world
        pending = world.scenario.faults
    }

    func reached(_ moment: Moment) {
        var later: [Fault] = []
        for fault in pending {
            guard fault.moment == moment else {
                later.append(fault)
                continue
            }
            _ = Errand(world, .nobody, at: world.now + fault.delay) { [self] in bring(fault.kind) }
        }
        pending = later
        if moment == .endSent { beginAtLast() }
    }

    /// No migration goes through untroubled.
    func beginAtLast() { if !hasTouched { bring(.cut) } }

    private func bring(_ kind: Fault.Kind) {
        guard world.now < Time.healed else { return }
        // Nothing tells a stranger who comes first from the source.
        let mayCome = kind == .stranger && world.parts.destination.control.hasBegun
        guard mayCome || kind == .freeze || !world.parts.destination.door.live.isEmpty
        else {
            // There is nothing to break: wait for the next link.
            pending.append(
                Fault(
                    kind: kind, moment: .welcomed,
                    delay: world.draw(Time.millisecond)))
            return
        }
        guard kind != .stranger || mayCome else { return beginAtLast() }
        world.note("fault", "\(kind)")
        act(kind, Trouble(world, kind))
    }

    private func act(_ kind: Fault.Kind, _ trouble: Trouble) {
        switch kind {
        case .cut: cut(live, deafness: 0, trouble)
        case .cutOne: cut([live[world.draw(live.count)]], deafness: 0, trouble)
        case .halfOpen: cut(live, deafness: 1 + world.draw(3), trouble)
        case .stall:
            let connection = live[world.draw(live.count)]
            connection.pipes[world.draw(2)].stall(
                until: world.now + Time.millisecond + world.draw(600 * Time.millisecond), trouble)
        case .cutAndRefuse:
            let door = world.parts.destination.door!
            door.refusesUntil = world.now + world.draw(2 * Time.second)
            door.isSilent = world.draw(2) == 0
            cut(live, deafness: 0, trouble)
        case .cutThenLate:
            let door = world.parts.destination.door!
            door.nextDelay = Time.linkLimit + world.draw(Time.second)
            cut(live, deafness: 0, trouble)
        case .freeze:
            world.freeze(
                world.draw(2),
                until: world.now + Time.millisecond + world.draw(700 * Time.millisecond), trouble)
        case .stranger: Stranger.knock(world, trouble)
        case .rogueDiscard:
            guard world.parts.source.phase.status != .active else { return }
            world.parts.source.sender.rogue = trouble
        }
    }

    private var live: [Connection] { world.parts.destination.door.live }

    /// - Parameter deafness: bit by bit, which ends hear nothing of it.
    private func cut(_ connections: [Connection], deafness: Int, _ trouble: Trouble) {
        for connection in connections { cut(connection, deafness: deafness, trouble) }
    }

    private func cut(_ connection: Connection, deafness: Int, _ trouble: Trouble) {
        let heard: [Int?] = (0...1).map { end in
            if deafness & (1 << end) != 0 { return nil }
            return world.now + world.draw(3 * Time.millisecond)
        }
        connection.cut(by: trouble, heard: heard)
    }
}

/// Somebody who connects and is no part of the migration, or is a late echo of it.
enum Stranger {
    static func knock(_ world: World, _ trouble: Trouble) {
        let worker = Visitor(world)
        world.parts.destination.door.connect(isSource: false, worker: worker) { socket in
            guard let socket else { return }
            trouble.touch()
            var bytes = opening(world)
            let count = socket.write(bytes[...]) ?? 0
            bytes.removeFirst(count)
            socket.listen(reader: nil, writer: nil)
            _ = Errand(world, .nobody, at: world.now + world.draw(Time.second)) {
                socket.close()
            }
        }
    }

    private final class Visitor: Worker {
        init(_ world: World) { super.init(world, "stranger", .nobody) }
    }

    private static func opening(_ world: World) -> [UInt8] {
        let source = world.parts.source
        let destination = world.parts.destination
        let wrong = MigrationToken(high: world.drawWord(), low: destination.token.low)
        let old = UInt32(world.draw(Int(source.lastAttempt) + 1))
        var bytes: [UInt8] = []
        switch world.draw(7) {
        case 0: bytes = (0..<40).map { _ in UInt8(truncatingIfNeeded: world.drawWord()) }
        case 1: StreamEncoder.appendHead(machineType: "small-1", to: &bytes)
        case 2, 3:
            ChannelHello(token: wrong, channel: .main, attempt: source.lastAttempt + 1)
                .append(to: &bytes)
        case 4:
            ChannelHello(token: wrong, channel: .urgent, attempt: source.lastAttempt)
                .append(to: &bytes)
        case 5:
            // A hello of a link that was up, on its way for long.
            let attempt = min(old, destination.control.attempt)
            ChannelHello(token: destination.token, channel: .main, attempt: attempt)
                .append(to: &bytes)
        default:
            guard old < destination.control.attempt else { break }
            ChannelHello(token: destination.token, channel: .urgent, attempt: old)
                .append(to: &bytes)
        }
        return bytes
    }
}
