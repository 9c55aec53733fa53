import LinuxKernel
import Synchronization
import TestSupport

/// Stands between two sessions, forwards every channel, and cuts all of them after so many bytes from
/// the source.
final class CuttingProxy: Sendable {
    let address: ChannelAddress
    private let target: ChannelAddress
    private let bytesLeft: Atomic<Int>
    private let stops: EventFlag
    /// While set, nothing from the source is forwarded.
    let isStalled = Atomic(false)
    private let sockets = Mutex<[SocketBox]>([])
    private let pumps = Mutex<[Bounded<Void>]>([])
    private let accepting = Mutex<Bounded<Void>?>(nil)
    private let recorder: MigrationRecorder?

    init(
        to target: ChannelAddress, cutAfter bytes: Int = .max, recorder: MigrationRecorder? = nil
    ) throws {
        self.target = target
        self.recorder = recorder
        bytesLeft = Atomic(bytes)
        stops = try EventFlag()
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        address = listener.address
        let place = Handover(listener)
        let thread = try Bounded("proxy") { self.accept(on: place.take()) }
        accepting.withLock { $0 = thread }
    }

    /// Longer than any migration of a test.
    private static let silenceMax: UInt64 = 60_000_000_000

    /// Ends all and answers whether every thread of the proxy ended.
    func stop() -> Bool {
        stops.raise()
        cut()
        guard accepting.withLock({ $0.take() })?.output() != nil else { return false }
        let pumps = pumps.withLock { pumps in
            defer { pumps = [] }
            return pumps
        }
        sockets.withLock { $0 = [] }
        return pumps.allSatisfy { $0.output() != nil }
    }

    private func accept(on listener: consuming Listener) {
        for channel in 0... {
            var poller = Poller(capacity: 2)
            let flag = poller.watch(stops)
            poller.watch(listener)
            _ = poller.wait(timeoutNanoseconds: .max)
            guard !poller.isReady(flag), let near = try? listener.accept(),
                let far = try? StreamSocket.connect(to: target)
            else { return }
            let (source, destination) = (SocketBox(near), SocketBox(far))
            // A destination says nothing for as long as memory goes to it and none is asked for.
            for end in [source, destination] { end.socket.limitWaits(nanoseconds: Self.silenceMax) }
            sockets.withLock { $0 += [source, destination] }
            if bytesLeft.load(ordering: .relaxed) <= 0 { cut() }
            let started = [
                try? Bounded("proxy") { self.pump(source, destination, channel, true) },
                try? Bounded("proxy") { self.pump(destination, source, channel, false) },
            ]
            pumps.withLock { $0 += started.compactMap(\.self) }
        }
    }

    private func pump(
        _ from: SocketBox, _ to: SocketBox, _ channel: Int, _ isFromSource: Bool
    ) {
        var reader = RawReader()
        while true {
            var bytes = reader.readSome(from: from.socket)
            guard !bytes.isEmpty else { break }
            if let recorder {
                recorder.note(bytes, channel: channel, isFromSource: isFromSource)
                bytes = recorder.asForStockQEMU(bytes)
            }
            while isFromSource, isStalled.load(ordering: .relaxed),
                !stops.wait(timeoutNanoseconds: 2_000_000)
            {}
            guard isFromSource else {
                if !to.send(bytes) { break }
                continue
            }
            let before = bytesLeft.subtract(bytes.count, ordering: .relaxed).oldValue
            let isSent = to.send(Array(bytes.prefix(max(0, before))))
            if before <= bytes.count { return cut() }
            if !isSent { break }
        }
        to.socket.shutDownSending()
    }

    /// Ends every channel; new ones are forwarded as before.
    func cut() {
        sockets.withLock { sockets in for socket in sockets { socket.socket.shutDown() } }
    }
}
