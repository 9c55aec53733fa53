internal import Postcopy
internal import Foundation
internal import Synchronization

/// Listens on a unix socket that only this user may use, on a thread of its own, so that neither the
/// migration nor who looks after it ever waits for somebody who asks.
final class ControlServer: Sendable {
    /// Longer than any request; what is longer is none.
    static let lineBytesMax = 4096
    /// People and a few scripts. One more takes the place of who has been silent for longest.
    static let clientsMax = 8
    /// Between two attempts to take a visitor in while no descriptor is left.
    private static let breathNanoseconds: UInt64 = 100_000_000

    let path: String
    private let stops: EventFlag
    private let thread: Mutex<JoinableThread<Void>?>

    /// - Throws: `ChannelError`, or `Errno`.
    init(at path: String, desk: ControlDesk) throws {
        let listener = OneUse(try Listener(at: .unix(path: path), isPrivate: true))
        let stops = try EventFlag()
        self.path = path
        self.stops = stops
        thread = Mutex(
            try JoinableThread<Void>(name: "pc-control") {
                Self.serve(listener.take(), until: stops, desk)
            })
    }

    /// Ends it and removes the socket. A second call has nothing to do.
    func end() {
        stops.raise()
        let ended = thread.withLock { $0.take() }
        switch consume ended {
        case .some(let thread): thread.join()
        case .none: break
        }
    }

    private static func serve(
        _ listener: consuming Listener, until stops: EventFlag, _ desk: ControlDesk
    ) {
        var clients: [ControlClient] = []
        while true {
            var poller = Poller(capacity: 2 + clients.count)
            let stop = poller.watch(stops)
            let door = poller.watch(listener)
            let places = clients.map { poller.watch($0.socket) }
            _ = poller.wait(timeoutNanoseconds: .max)
            if poller.isReady(stop) { return }
            let now = Monotonic.now()
            clients = zip(clients, places).filter { client, place in
                !poller.isReady(place) || client.serve(desk, at: now)
            }.map(\.0)
            guard poller.isReady(door) else { continue }
            if !admit(listener, &clients, at: now),
                stops.wait(timeoutNanoseconds: breathNanoseconds)
            {
                return
            }
        }
    }

    /// Takes a visitor in; `false` when that cannot be.
    private static func admit(
        _ listener: borrowing Listener, _ clients: inout [ControlClient], at now: UInt64
    ) -> Bool {
        let client: ControlClient
        do throws(ChannelError) {
            client = ControlClient(try listener.accept(), at: now)
        } catch { return false }
        if clients.count == clientsMax,
            let silent = clients.indices.min(by: { clients[$0].heardAt < clients[$1].heardAt })
        {
            clients.remove(at: silent)
        }
        clients.append(client)
        return true
    }
}

/// Somebody who is connected. The control thread owns it.
private final class ControlClient {
    let socket: StreamSocket
    /// When it last said anything.
    private(set) var heardAt: UInt64
    private var buffer = ReceiveBuffer(capacityBytes: 2 * ControlServer.lineBytesMax)

    init(_ socket: consuming StreamSocket, at now: UInt64) {
        self.socket = socket
        heardAt = now
    }

    /// Answers what it has said; `false` when it goes.
    func serve(_ desk: ControlDesk, at now: UInt64) -> Bool {
        heardAt = now
        do throws(Errno) {
            guard let count = try buffer.fill(from: socket, wait: false) else { return true }
            guard count > 0 else { return false }
        } catch { return false }
        while let line = takeLine() {
            guard line.count <= ControlServer.lineBytesMax else { return refuseLength() }
            guard line.contains(where: { $0 > 0x20 }) else { continue }
            guard send(desk.answer(line)) else { return false }
        }
        return buffer.count <= ControlServer.lineBytesMax || refuseLength()
    }

    private func refuseLength() -> Bool {
        _ = send(.failed("a line has at most \(ControlServer.lineBytesMax) bytes"))
        return false
    }

    private func takeLine() -> [UInt8]? {
        let line: [UInt8]? = buffer.withBytes { bytes in
            guard let end = bytes.indices.first(where: { bytes[$0] == UInt8(ascii: "\n") }) else {
                return nil
            }
            return (0..<end).map { bytes[$0] }
        }
        if let line { buffer.consume(line.count + 1) }
        return line
    }

    /// Somebody who asks and does not read goes.
    private func send(_ answer: ControlAnswer) -> Bool {
        let line = [UInt8](answer.encodedLine())
        return (try? socket.sendWithoutWaiting(line.span, from: 0)) == line.count
    }
}
