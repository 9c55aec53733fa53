internal import Postcopy
internal import Synchronization

/// Stands between the two processes of a `run`, forwards what they say, and cuts them off from each
/// other when it is told to: connections that stand are reset, and new ones for as long as it lasts.
///
/// One thread, which never waits for a socket: what one side does not take fills a bounded buffer, and
/// then the other side is not read.
final class LinkBreaker: Sendable {
    /// What the two connect to in place of each other.
    let address: ChannelAddress
    private let work: BreakerWork
    private let thread: Mutex<JoinableThread<Void>?>

    /// - Parameter place: where it listens.
    init(between place: ChannelAddress, and target: ChannelAddress) throws {
        let listener = try Listener(at: place)
        let work = try BreakerWork(target: target)
        address = listener.address
        self.work = work
        let door = OneUse(listener)
        thread = Mutex(
            try JoinableThread<Void>(name: "pc-breaker") { work.serve(door.take()) })
    }

    /// The cuts so far.
    var cuts: [CutFigures] { work.cuts }

    /// Whether the link is whole, as far as it depends on this.
    var isWhole: Bool { work.isWhole }

    func cut(lastingNanoseconds: UInt64) { work.cut(lastingNanoseconds) }

    /// Ends it, and with it every connection. A second call has nothing to do.
    func end() {
        work.end()
        let ended = thread.withLock { $0.take() }
        switch consume ended {
        case .some(let thread): thread.join()
        case .none: break
        }
    }
}

/// What the breaker's thread does, and what it is told meanwhile.
private final class BreakerWork: Sendable {
    private struct Orders {
        var cutForNanoseconds: UInt64?
        var isOver = false
        var cuts: [CutFigures] = []
    }

    private let target: ChannelAddress
    private let orders = Mutex(Orders())
    private let wakes: EventFlag

    init(target: ChannelAddress) throws(Errno) {
        self.target = target
        wakes = try EventFlag()
    }

    var cuts: [CutFigures] { orders.withLock { $0.cuts } }

    var isWhole: Bool {
        orders.withLock { orders in
            orders.cutForNanoseconds == nil
                && (orders.cuts.isEmpty || orders.cuts.last?.healedAtNs != nil)
        }
    }

    func cut(_ nanoseconds: UInt64) {
        orders.withLock { $0.cutForNanoseconds = nanoseconds }
        wakes.raise()
    }

    func end() {
        orders.withLock { $0.isOver = true }
        wakes.raise()
    }

    func serve(_ listener: consuming Listener) {
        var lines: [ForwardedLine] = []
        var healsAt: UInt64?
        while true {
            wakes.clear()
            let now = Monotonic.now()
            let (cutFor, isOver) = orders.withLock { orders in
                defer { orders.cutForNanoseconds = nil }
                // Whoever sees a line reset sees the cut as well.
                if orders.cutForNanoseconds != nil, !orders.isOver {
                    orders.cuts.append(CutFigures(cutAtNs: now, healedAtNs: nil))
                }
                return (orders.cutForNanoseconds, orders.isOver)
            }
            if isOver { return }
            if let cutFor {
                for line in lines { line.reset() }
                lines = []
                healsAt = now + cutFor
            }
            if let end = healsAt, now >= end {
                healsAt = nil
                orders.withLock { $0.cuts[$0.cuts.count - 1].healedAtNs = now }
            }
            look(listener, &lines, until: healsAt, at: now)
        }
    }

    /// Until somebody is let in again after that could not be: so rarely that it costs nothing, and too soon
    /// for who connects to notice.
    private static let restNanoseconds: UInt64 = 10_000_000

    /// Waits for what comes next, and does it.
    private func look(
        _ listener: borrowing Listener, _ lines: inout [ForwardedLine], until end: UInt64?,
        at now: UInt64
    ) {
        var poller = Poller(capacity: 2 + 4 * lines.count)
        poller.watch(wakes)
        let door = poller.watch(listener)
        for line in lines { line.watch(&poller) }
        _ = poller.wait(timeoutNanoseconds: end.map { $0 - now } ?? .max)
        lines = lines.filter { $0.forward() }
        guard poller.isReady(door) else { return }
        do throws(ChannelError) {
            let near = try listener.accept()
            guard end == nil else { return near.resetWhenClosed() }
            lines.append(ForwardedLine(near, try StreamSocket.connect(to: target)))
        } catch {
            // Whoever connected finds that nobody is there. One that could not be accepted is still
            // there, and a descriptor may be free in a moment.
            Monotonic.sleep(untilNanoseconds: Monotonic.now() + Self.restNanoseconds)
        }
    }
}

/// Two connections that are one for those at their ends. The breaker's thread owns it.
private final class ForwardedLine {
    private let near: StreamSocket
    private let far: StreamSocket
    private var outward = ForwardedBytes()
    private var inward = ForwardedBytes()

    init(_ near: consuming StreamSocket, _ far: consuming StreamSocket) {
        self.near = near
        self.far = far
        prepare(self.near)
        prepare(self.far)
    }

    /// As much as lies in a channel of a migration anyhow, so that an urgent page waits no longer.
    private func prepare(_ socket: borrowing StreamSocket) {
        socket.sendAtOnce()
        socket.boundBuffers(bytes: 128 << 10, unsentBytes: 32 << 10)
    }

    /// Has both ends find the connection broken once this is gone.
    func reset() {
        near.resetWhenClosed()
        far.resetWhenClosed()
    }

    func watch(_ poller: inout Poller) {
        if outward.hasRoom { poller.watch(near) }
        if outward.hasBytes { poller.watchRoom(in: far) }
        if inward.hasRoom { poller.watch(far) }
        if inward.hasBytes { poller.watchRoom(in: near) }
    }

    /// Moves what can be moved; `false` when both ends are through, or one has broken.
    func forward() -> Bool {
        do throws(Errno) {
            try outward.move(from: near, to: far)
            try inward.move(from: far, to: near)
            return !(outward.isOver && inward.isOver)
        } catch {
            reset()
            return false
        }
    }
}

/// What goes in one direction.
private struct ForwardedBytes: ~Copyable {
    private static let capacityBytes = 64 << 10

    private var buffer = ReceiveBuffer(capacityBytes: capacityBytes)
    private var isEnded = false
    private(set) var isOver = false

    init() {}

    var hasRoom: Bool { !isEnded && buffer.count < Self.capacityBytes }
    var hasBytes: Bool { buffer.count > 0 }

    mutating func move(
        from source: borrowing StreamSocket, to target: borrowing StreamSocket
    ) throws(Errno) {
        if hasRoom, try buffer.fill(from: source, wait: false) == 0 { isEnded = true }
        if hasBytes {
            let sent = try buffer.withBytes { bytes throws(Errno) in
                try target.sendWithoutWaiting(bytes, from: 0)
            }
            buffer.consume(sent)
        }
        if isEnded, !hasBytes, !isOver {
            isOver = true
            target.shutDownSending()
        }
    }
}
