internal import LinuxKernel
internal import StreamWire

/// Where a source connects, and those who have and did not say yet who they are. Open for as long as a
/// migration lasts: a source whose link broke comes back here. One thread owns it.
struct Door: ~Copyable, Sendable {
    private var listener: Listener?
    private var candidates: [Candidate] = []
    private let options: MigrationOptions
    /// Until when nobody is accepted: with no descriptor left the listener would stay ready for ever.
    private var restsUntilNanoseconds: UInt64?

    private static let restNanoseconds: UInt64 = 100_000_000

    /// Somebody whose first bytes say who he is.
    enum Visitor {
        /// A migration begins.
        case migration(Arrival)
        /// A source of ours, on its main channel or the urgent one.
        case hello(ChannelHello, Arrival)
        /// A QEMU source that comes back asks for a bitmap at once.
        case bitmapRequest(Arrival)
        /// Anything else, or an end before anything: perhaps the first page of an urgent channel.
        case other(Arrival)
    }

    /// A connection that was not judged yet.
    fileprivate struct Candidate {
        let socket: SharedSocket
        var bytes: [UInt8] = []
        var hasEnded = false
    }

    /// A source has two connections on their way at most; the oldest of more strangers has to go.
    private static let candidatesMax = 8

    init(_ listener: consuming Listener, _ options: MigrationOptions) {
        self.listener = consume listener
        self.options = options
    }

    /// Listens somewhere else.
    mutating func move(to listener: consuming Listener) { self.listener = consume listener }

    /// Refuses whoever comes from now on, and those who said nothing.
    mutating func close() {
        listener = nil
        candidates = []
    }

    var isOpen: Bool {
        switch listener {
        case .some: true
        case .none: false
        }
    }

    /// What a poller watches of it.
    struct Places {
        fileprivate let listener: Int?
        fileprivate let candidates: [Int]
    }

    /// How many descriptors `watch` adds at most.
    static let watchedMax = 1 + candidatesMax

    mutating func watch(in poller: inout Poller) -> Places {
        if let until = restsUntilNanoseconds, Monotonic.now() >= until {
            restsUntilNanoseconds = nil
        }
        let place: Int?
        switch listener {
        case .some(let listener) where restsUntilNanoseconds == nil:
            place = poller.watch(listener)
        default: place = nil
        }
        return Places(
            listener: place, candidates: candidates.map { poller.watch($0.socket.socket) })
    }

    /// How long a wait for visitors may be.
    func limit(_ nanoseconds: UInt64) -> UInt64 {
        restsUntilNanoseconds == nil ? nanoseconds : min(nanoseconds, Self.restNanoseconds)
    }

    /// Takes what has come, of connections and of first words.
    mutating func take(_ poller: Poller, _ places: Places) -> [Visitor] {
        var visitors: [Visitor] = []
        var unjudged: [Candidate] = []
        for (candidate, place) in zip(candidates, places.candidates) {
            var candidate = candidate
            if poller.isReady(place) { candidate.hear() }
            if let visitor = candidate.visitor {
                visitors.append(visitor)
            } else {
                unjudged.append(candidate)
            }
        }
        candidates = unjudged
        if let place = places.listener, poller.isReady(place) { accept() }
        return visitors
    }

    private mutating func accept() {
        guard let socket = accepted() else {
            if !candidates.isEmpty { candidates.removeFirst() }
            restsUntilNanoseconds = Monotonic.now() + Self.restNanoseconds
            return
        }
        ChannelTuning.prepare(socket.socket, options)
        if candidates.count == Self.candidatesMax { candidates.removeFirst() }
        candidates.append(Candidate(socket: socket))
    }

    private func accepted() -> SharedSocket? {
        switch listener {
        case .some(let listener): try? SharedSocket(listener.accept())
        case .none: nil
        }
    }

}

/// A connection and what was read of it from its first byte on, but for a hello.
struct Arrival: Sendable {
    let socket: SharedSocket
    let opening: [UInt8]

    init(_ socket: SharedSocket, opening: [UInt8] = []) {
        self.socket = socket
        self.opening = opening
    }

    /// Says why it is turned away, as far as there is room for that, and leaves it.
    func refuse(_ answer: RecoveryAnswer, reason: String) {
        var encoder = ReturnPathEncoder(blocks: [], offered: [.refusalReason, .recovery])
        var bytes: [UInt8] = []
        encoder.append(.refusalReason(reason), to: &bytes)
        encoder.append(.recoveryAnswer(answer), to: &bytes)
        _ = try? socket.socket.sendWithoutWaiting(bytes.span, from: 0)
        socket.socket.shutDownSending()
    }
}

/// A socket that several threads know.
final class SharedSocket: Sendable {
    let socket: StreamSocket

    init(_ socket: consuming StreamSocket) { self.socket = socket }
}

extension Door.Candidate {
    /// What tells any two visitors apart.
    private static let wordBytes = 4

    /// Reads no more than what says who this is.
    fileprivate mutating func hear() {
        var buffer = ReceiveBuffer(capacityBytes: wantedBytes - bytes.count)
        do throws(Errno) {
            guard let received = try buffer.fill(from: socket.socket, wait: false) else { return }
            hasEnded = received == 0
        } catch { hasEnded = true }
        bytes += buffer.bytes
    }

    private var wantedBytes: Int {
        bytes.count >= Self.wordBytes && ChannelHello.mayBegin(bytes.span)
            ? ChannelHello.wireBytes : Self.wordBytes
    }

    /// Who it is; `nil` as long as that is not known.
    fileprivate var visitor: Door.Visitor? {
        let arrival = Arrival(socket, opening: bytes)
        guard bytes.count >= Self.wordBytes else { return hasEnded ? .other(arrival) : nil }
        if ChannelHello.mayBegin(bytes.span) {
            do throws(WireError) {
                if let hello = try ChannelHello.decode(bytes.span) {
                    return .hello(hello, Arrival(socket))
                }
                return hasEnded ? .other(arrival) : nil
            } catch { return .other(arrival) }
        }
        if OtherChannel(beginning: bytes.span) == .migration { return .migration(arrival) }
        return bytes[0..<3] == [0x08, 0x00, 0x0A] ? .bitmapRequest(arrival) : .other(arrival)
    }
}
