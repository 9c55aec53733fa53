import LinuxKernel
import Synchronization
import TestSupport

/// Where and how a link is broken.
struct Break: Sendable {
    enum Place: Sendable {
        /// Behind so many bytes of all channels since the last break.
        case fromSource(Int)
        case fromDestination(Int)
        /// When the destination says so: SHUT and RESUME_ACK do not arrive.
        case beforeShut
        case beforeAcknowledgement
    }

    enum Kind: Sendable {
        /// Both ends see it at once.
        case cut
        /// Nothing arrives any more, and every socket stays open.
        case freeze
        /// The urgent channel alone is cut.
        case urgent
    }

    var place: Place
    var kind = Kind.cut
    /// For how long nobody gets through afterwards.
    var lastingNanoseconds: UInt64 = 0
}

/// Stands between two sessions, breaks their link by a plan, and lets it come back.
final class BreakingProxy: Sendable {
    let address: ChannelAddress
    private let target: ChannelAddress
    private let stops: EventFlag
    private let state: Mutex<State>
    private let pumps = Mutex<[Bounded<Void>]>([])
    private let accepting = Mutex<Bounded<Void>?>(nil)

    /// A break that happened.
    struct Event: Sendable {
        let atNanoseconds: UInt64
        let backAtNanoseconds: UInt64
    }

    fileprivate struct State {
        /// Those to come, the next one first.
        var plan: [Break]
        var events: [Event] = []
        var link = 0
        /// Since the last break, by sender.
        var bytes = (fromSource: 0, fromDestination: 0)
        var channels: [Channel] = []
        var downUntilNanoseconds: UInt64 = 0
        var isFrozen = false
        /// Connections that came while nothing arrived.
        var unheard: [SocketBox] = []
    }

    fileprivate final class Channel: Sendable {
        let source: SocketBox
        let destination: SocketBox
        let link: Int
        let isUrgent: Bool
        let isFrozen = Atomic(false)

        init(_ source: SocketBox, _ destination: SocketBox, link: Int, isUrgent: Bool) {
            (self.source, self.destination) = (source, destination)
            (self.link, self.isUrgent) = (link, isUrgent)
        }

        func cut() {
            source.socket.shutDown()
            destination.socket.shutDown()
        }
    }

    init(to target: ChannelAddress, plan: [Break]) throws {
        self.target = target
        state = Mutex(State(plan: plan))
        stops = try EventFlag()
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        address = listener.address
        let place = Handover(listener)
        let thread = try Bounded("proxy") { self.accept(on: place.take()) }
        accepting.withLock { $0 = thread }
    }

    /// Longer than any migration of a test.
    private static let silenceMax: UInt64 = 60_000_000_000
    private static let bufferBytes = 64 << 10

    var events: [Event] { state.withLock { $0.events } }

    /// Breaks the link now, beside the plan.
    func breakLink(_ kind: Break.Kind = .cut, lastingNanoseconds: UInt64 = 0) {
        state.withLock { state in
            state.end(
                Break(place: .beforeShut, kind: kind, lastingNanoseconds: lastingNanoseconds))
        }
    }

    /// Ends all and answers whether every thread of the proxy ended.
    func stop() -> Bool {
        stops.raise()
        guard accepting.withLock({ $0.take() })?.output() != nil else { return false }
        state.withLock { state in
            for channel in state.channels { channel.cut() }
            state.channels = []
            state.unheard = []
        }
        let pumps = pumps.withLock { pumps in
            defer { pumps = [] }
            return pumps
        }
        return pumps.allSatisfy { $0.output() != nil }
    }
}

// Its threads.
extension BreakingProxy {
    private func accept(on listener: consuming Listener) {
        while true {
            var poller = Poller(capacity: 2)
            let flag = poller.watch(stops)
            poller.watch(listener)
            _ = poller.wait(timeoutNanoseconds: .max)
            guard !poller.isReady(flag), let near = try? listener.accept() else { return }
            forward(SocketBox(near))
        }
    }

    private func forward(_ near: SocketBox) {
        let isUp = state.withLock { state in
            guard Monotonic.now() < state.downUntilNanoseconds else { return true }
            if state.isFrozen { state.unheard.append(near) }
            return false
        }
        guard isUp, let far = try? StreamSocket.connect(to: target) else { return }
        let box = SocketBox(far)
        for end in [near, box] { end.socket.limitWaits(nanoseconds: Self.silenceMax) }
        let channel = state.withLock { state in
            let others = state.channels.filter { $0.link == state.link }
            let channel = Channel(near, box, link: state.link, isUrgent: !others.isEmpty)
            state.channels.append(channel)
            return channel
        }
        let started = [
            try? Bounded("proxy") { self.pump(channel, isFromSource: true) },
            try? Bounded("proxy") { self.pump(channel, isFromSource: false) },
        ]
        pumps.withLock { $0 += started.compactMap(\.self) }
    }

    private func pump(_ channel: Channel, isFromSource: Bool) {
        let from = isFromSource ? channel.source : channel.destination
        let to = isFromSource ? channel.destination : channel.source
        var buffer = ReceiveBuffer(capacityBytes: Self.bufferBytes)
        while let received = try? buffer.fill(from: from.socket, wait: true), received > 0 {
            let isOpen = buffer.withBytes { bytes in
                let verdict = state.withLock { $0.judge(bytes, of: channel, isFromSource) }
                guard !channel.isFrozen.load(ordering: .acquiring) else { return true }
                guard let (count, planned) = verdict else {
                    return (try? to.socket.send(bytes)) != nil
                }
                to.send((0..<count).map { bytes[$0] })
                state.withLock { $0.end(planned) }
                return planned.kind != .cut
            }
            buffer.consume(received)
            if !isOpen { break }
        }
        to.socket.shutDownSending()
    }
}

extension BreakingProxy.State {
    /// Counts what came; answers how much of it passes before the break that is due.
    fileprivate mutating func judge(
        _ bytes: Span<UInt8>, of channel: BreakingProxy.Channel, _ isFromSource: Bool
    ) -> (Int, Break)? {
        guard channel.link == link, let planned = plan.first else { return nil }
        let count: Int?
        switch planned.place {
        case .fromSource(let limit):
            guard isFromSource else { return nil }
            count = limit - self.bytes.fromSource
            self.bytes.fromSource += bytes.count
        case .fromDestination(let limit):
            guard !isFromSource else { return nil }
            count = limit - self.bytes.fromDestination
            self.bytes.fromDestination += bytes.count
        case .beforeShut:
            count = isFromSource ? nil : place(of: [0, 1, 0, 4, 0, 0, 0, 0], in: bytes)
        case .beforeAcknowledgement:
            count = isFromSource ? nil : place(of: [0, 6, 0, 4, 0, 0, 0, 1], in: bytes)
        }
        guard let count, count < bytes.count else { return nil }
        plan.removeFirst()
        return (max(0, count), planned)
    }

    private func place(of word: [UInt8], in bytes: Span<UInt8>) -> Int? {
        guard bytes.count >= word.count else { return nil }
        return (0...bytes.count - word.count).first { start in
            word.indices.allSatisfy { bytes[start + $0] == word[$0] }
        }
    }

    /// Ends the link that is up, and begins to count anew.
    fileprivate mutating func end(_ planned: Break) {
        let now = Monotonic.now()
        for channel in channels where channel.link == link {
            switch planned.kind {
            case .cut: channel.cut()
            case .freeze: channel.isFrozen.store(true, ordering: .releasing)
            case .urgent: if channel.isUrgent { channel.cut() }
            }
        }
        if planned.kind == .cut { channels.removeAll { $0.link == link } }
        link += 1
        bytes = (0, 0)
        unheard = []
        isFrozen = planned.kind == .freeze
        downUntilNanoseconds = now + planned.lastingNanoseconds
        events.append(
            BreakingProxy.Event(atNanoseconds: now, backAtNanoseconds: downUntilNanoseconds))
    }
}
