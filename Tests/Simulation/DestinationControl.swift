import Synchronization
import MigrationCore
import PageModel
import StreamWire

/// The destination's control thread: lets links in, ends them, starts the guest.
final class DestinationControl: Worker {
    private var gate: RecoveryGate
    private var lastAttempt: UInt32?
    /// Told its last word, the source has this long to close.
    private var lingersUntil: Int?
    private var held: [Visitor] = []

    /// A connection whose first bytes have not been judged.
    private struct Visitor {
        let socket: Socket
        var bytes = ByteQueue()
    }

    // As many as the product's door holds (`Door`); `SimulationTests` compares them.
    static let heldMax = 8

    init(_ world: World, _ token: MigrationToken) {
        gate = RecoveryGate(token: token)
        super.init(world, "destination", .destination)
    }

    private var state: DestinationSide { world.parts.destination }

    /// The attempt that was let in last.
    var attempt: UInt32 { lastAttempt ?? 0 }
    var hasBegun: Bool { lastAttempt != nil }

    override func step() {
        if let link = state.link, link.isEnding {
            guard link.streamHasEnded, link.faultHasLetGo else { return }
            bury(link)
            return goOn()
        }
        if let mail = state.nextMail() {
            take(mail)
            return goOn()
        }
        if let until = lingersUntil { linger(until) }
        while let connection = state.door.nextArrival() {
            let socket = Socket(connection: connection, end: 1)
            socket.listen(reader: self, writer: nil)
            held.append(Visitor(socket: socket))
            if held.count > Self.heldMax { held.removeFirst().socket.close() }
        }
        lookAtVisitors()
    }

    private func take(_ mail: DestinationSide.Mail) {
        switch mail {
        case .event(let event): perform(state.advance(event))
        case .perform(let action): perform(action)
        case .load(let pings): state.loader.begin(pings)
        }
    }

    private func perform(_ action: DestinationAction) {
        switch action {
        case .none, .refuse, .prepareMemory, .dropRanges, .startListening, .allowCommit,
            .awaitPages, .sendBitmap:
            break
        case .startGuest: world.parts.guest.runAtDestination()
        case .startGuestThenShut:
            world.parts.guest.runAtDestination()
            finish(0)
        case .sendShut(let error): finish(error)
        case .closeStream, .pause: endLink()
        case .resumePages:
            if state.demand.missing.load(ordering: .relaxed) == 0 {
                perform(state.advance(.allPagesPlaced))
            }
            guard case .loaded = state.phase else { return }
            let action = state.advance(.run)
            guard action == .startGuest || action == .startGuestThenShut else { return }
            for value in state.loader.pings { state.send(.message(.pong(value))) }
            perform(action)
        }
    }

    private func finish(_ error: UInt32) {
        state.send(.message(.shut(error)))
        lingersUntil = world.now + Time.second
        goOn(at: world.now + Time.second)
    }

    private func linger(_ until: Int) {
        guard let link = state.link else {
            lingersUntil = nil
            return
        }
        guard world.now >= until || link.streamHasEnded else { return goOn(at: until) }
        lingersUntil = nil
        endLink()
    }

    private func endLink() {
        guard let link = state.link, !link.isEnding else { return }
        link.isEnding = true
        state.stream.goOn()
        state.fault.goOn()
        goOn()
    }

    private func bury(_ link: DestinationLink) {
        link.main.close()
        link.urgent?.close()
        state.link = nil
        // Only now does nobody of the old link add to it any more.
        state.clearOutbox()
        world.note("destination", "the link of attempt \(link.attempt) is down")
    }

    // MARK: - The door

    private func lookAtVisitors() {
        var index = 0
        while index < held.count {
            let reading = held[index].socket.read(
                into: &held[index].bytes,
                countMax: ChannelHello.wireBytes - held[index].bytes.count)
            let isOver = reading == .ended || reading == .failed
            switch judge(held[index]) {
            case .wait where !isOver: index += 1
            case .wait, .close: held.remove(at: index).socket.close()
            case .taken: held.remove(at: index)
            }
        }
    }

    private enum Judgement { case wait, close, taken }

    private func judge(_ visitor: Visitor) -> Judgement {
        let bytes = Array(visitor.bytes.prefix(visitor.bytes.count))
        guard bytes.count >= OtherChannel.wordBytes else { return .wait }
        if OtherChannel(beginning: bytes.span) == .migration { return greetFirst(visitor, bytes) }
        let hello: ChannelHello?
        do throws(WireError) { hello = try ChannelHello.decode(bytes.span) } catch { return .close }
        guard let hello else { return .wait }
        return hello.channel == .main ? judgeMain(hello, visitor) : judgeUrgent(hello, visitor)
    }

    private func greetFirst(_ visitor: Visitor, _ bytes: [UInt8]) -> Judgement {
        guard state.phase == .none, state.link == nil, lastAttempt == nil else { return .close }
        guard visitor.socket.connection.isSource else {
            world.fail("a stranger stays out", "it opened the migration")
            return .close
        }
        lastAttempt = 0
        open(visitor.socket, attempt: 0, bytes, nil)
        return .taken
    }

    private func open(
        _ socket: Socket, attempt: UInt32, _ opening: [UInt8], _ answer: RecoveryAnswer?
    ) {
        let link = DestinationLink(socket, attempt: attempt)
        state.link = link
        state.fault.begin(link, answer: answer)
        state.stream.begin(link, opening: opening, ramSection: SourceSide.section)
    }

    private func judgeMain(_ hello: ChannelHello, _ visitor: Visitor) -> Judgement {
        if state.link != nil, case .welcome = gate.verdict(on: hello, in: state.phase) {
            endLink()
            return .wait
        }
        switch gate.judge(hello, in: state.phase) {
        case .welcome(let answer):
            if hello.attempt <= lastAttempt ?? 0 {
                world.fail("an old attempt stays out", "\(hello.attempt)")
            }
            judge(hello, visitor)
            lastAttempt = hello.attempt
            world.note("destination", "welcomes attempt \(hello.attempt): \(answer)")
            perform(state.advance(.reconnected))
            open(visitor.socket, attempt: hello.attempt, [], answer)
            return .taken
        // The package may be whole in what is not read yet.
        case .endOldLink where state.phase.isBeforeSwitch: return refuse(visitor, .busy)
        case .endOldLink:
            world.note("destination", "a newer link ends the old one")
            state.report(.linkInterrupted, "the source came back")
            return .wait
        case .refuse(let answer): return refuse(visitor, answer)
        }
    }

    private func refuse(_ visitor: Visitor, _ answer: RecoveryAnswer) -> Judgement {
        if answer == .busy, visitor.socket.connection.isSource { world.tally.lateHellos += 1 }
        var encoder = ReturnPathEncoder(
            blocks: state.blocks, offered: [.refusalReason, .recovery])
        var bytes: [UInt8] = []
        encoder.append(.recoveryAnswer(answer), to: &bytes)
        _ = visitor.socket.write(bytes[...])
        return .close
    }

    /// Judges the gate that let somebody in.
    private func judge(_ hello: ChannelHello, _ visitor: Visitor) {
        guard hello.token == state.token, visitor.socket.connection.isSource else {
            return world.fail("a stranger stays out", "its hello was \(hello)")
        }
    }

    private func judgeUrgent(_ hello: ChannelHello, _ visitor: Visitor) -> Judgement {
        guard gate.admits(urgent: hello), let link = state.link, !link.isEnding,
            link.urgent == nil
        else { return .close }
        if hello.attempt != link.attempt {
            world.fail("an old attempt stays out", "\(hello.attempt) on \(link.attempt)")
        }
        judge(hello, visitor)
        link.urgent = visitor.socket
        state.fault.adoptUrgent(link, [])
        return .taken
    }
}

/// What loads the devices, which may touch memory that is still to come.
final class Loader: Worker {
    private(set) var pings: [UInt32] = []
    private var touched = 0
    private var place: HostPage?
    private var isLoading = false

    init(_ world: World) { super.init(world, "load", .destination) }

    private var state: DestinationSide { world.parts.destination }

    func begin(_ pings: [UInt32]) {
        self.pings = pings
        isLoading = true
        goOn(at: world.now + world.draw(4 * Time.millisecond))
    }

    func giveUp() {
        isLoading = false
        world.parts.guest.endFaults()
    }

    override func step() {
        guard isLoading else { return }
        guard touched < world.scenario.devicePages else { return finish() }
        let guest = world.parts.guest
        let page = place ?? choose(guest)
        place = page
        guard guest.isPresent(page) else { return guest.wait(for: page, by: self) }
        place = nil
        touched += 1
        goOn()
    }

    private func choose(_ guest: GuestModel) -> HostPage {
        let block = world.draw(guest.blocks.count)
        let page = world.draw(guest.hostPageCount(of: block))
        return HostPage(block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: page))
    }

    private func finish() {
        isLoading = false
        if world.scenario.refusesDevices {
            world.parts.saboteur.beginAtLast()
            return state.report(.deviceRefused, "the guest refused its devices")
        }
        world.parts.guest.devicesLoaded = true
        let action = state.commit()
        guard action == .startGuest || action == .startGuestThenShut else { return }
        for value in pings { state.send(.message(.pong(value))) }
        state.post(.perform(action))
    }
}
