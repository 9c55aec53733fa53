internal import Postcopy
internal import Synchronization

/// Shows a text to whoever asks for it by HTTP/1.1, on a thread of its own. Each connection is answered
/// once and closed; neither the migration nor another visitor waits for a slow one.
final class MetricsServer: Sendable {
    /// A scraper or two, and somebody with a browser. One more takes the place of the oldest.
    static let visitorsMax = 8
    /// From the connection to the last byte of the answer: a scraper on the same network needs
    /// milliseconds.
    static let visitNanosecondsMax: UInt64 = 2_000_000_000
    /// Between two attempts to take a visitor in while no descriptor is left.
    private static let breathNanoseconds: UInt64 = 100_000_000

    let address: ChannelAddress
    private let stops: EventFlag
    private let thread: Mutex<JoinableThread<Void>?>

    /// - Throws: `ChannelError`, or `Errno`.
    init(at address: ChannelAddress, text: @escaping @Sendable () -> String) throws {
        let listener = try Listener(at: address)
        self.address = listener.address
        let place = OneUse(listener)
        let stops = try EventFlag()
        self.stops = stops
        thread = Mutex(
            try JoinableThread<Void>(name: "pc-metrics") {
                Self.serve(place.take(), until: stops, text)
            })
    }

    /// Ends it, and removes a socket's file. A second call has nothing to do.
    func end() {
        stops.raise()
        let ended = thread.withLock { $0.take() }
        switch consume ended {
        case .some(let thread): thread.join()
        case .none: break
        }
    }

    private static func serve(
        _ listener: consuming Listener, until stops: EventFlag, _ text: () -> String
    ) {
        var visitors: [MetricsVisitor] = []
        while true {
            var poller = Poller(capacity: 2 + visitors.count)
            let stop = poller.watch(stops)
            let door = poller.watch(listener)
            let places = visitors.map { $0.watch(in: &poller) }
            let first = visitors.map(\.deadline).min()
            let now = Monotonic.now()
            _ = poller.wait(timeoutNanoseconds: first.map { $0 - min(now, $0) } ?? .max)
            if poller.isReady(stop) { return }
            let then = Monotonic.now()
            visitors = zip(visitors, places).filter { visitor, place in
                (!poller.isReady(place) || visitor.serve(text)) && then < visitor.deadline
            }.map(\.0)
            guard poller.isReady(door) else { continue }
            do throws(ChannelError) {
                visitors.append(MetricsVisitor(try listener.accept(), at: then))
                if visitors.count > visitorsMax { visitors.removeFirst() }
            } catch {
                if stops.wait(timeoutNanoseconds: breathNanoseconds) { return }
            }
        }
    }
}

/// Somebody who asks. The server's thread owns it.
private final class MetricsVisitor {
    private let socket: StreamSocket
    let deadline: UInt64
    private var buffer = ReceiveBuffer(capacityBytes: MetricsRequest.bytesMax + 1)
    /// What is to be sent, once it is known, and how much of it was.
    private var answer: [UInt8] = []
    private var sentBytes = 0

    init(_ socket: consuming StreamSocket, at now: UInt64) {
        self.socket = socket
        deadline = now + MetricsServer.visitNanosecondsMax
    }

    func watch(in poller: inout Poller) -> Int {
        answer.isEmpty ? poller.watch(socket) : poller.watchRoom(in: socket)
    }

    /// Goes on with it; `false` when it is over.
    func serve(_ text: () -> String) -> Bool {
        do throws(Errno) {
            if answer.isEmpty {
                guard let count = try buffer.fill(from: socket, wait: false) else { return true }
                guard count > 0 else { return false }
                guard let request = MetricsRequest(reading: buffer.bytes) else { return true }
                answer = request.answer(text)
            }
            let answer = answer
            sentBytes += try socket.sendWithoutWaiting(answer.span, from: sentBytes)
        } catch { return false }
        guard sentBytes == answer.count else { return true }
        // Unread bytes of a long request would make the end of a connection a reset.
        socket.shutDownSending()
        return false
    }
}
