import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport

/// A source that migrates on a thread of its own, to a destination that the test plays.
final class SourceUnderTest: Sendable {
    let guest: PatternGuest
    let session: SourceSession
    private let run: Bounded<SourceReport>
    private let listener: Mutex<Listener?>
    let address: ChannelAddress

    init(
        _ guest: PatternGuest, options: MigrationOptions, starts: Bool = true,
        listens: Bool = true
    ) throws {
        self.guest = guest
        guest.resume()
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let address = listener.address
        self.address = address
        self.listener = Mutex(listens ? consume listener : nil)
        let session = try SourceSession(guest: guest, options: options)
        self.session = session
        if starts { session.startPostcopy() }
        run = try Bounded("source") { session.run(to: address) }
    }

    /// The next connection of the source.
    func accept(withinNanoseconds limit: UInt64 = 5_000_000_000) throws -> SocketBox {
        try listener.withLock { listener in
            var poller = Poller(capacity: 1)
            poller.watch(listener!)
            guard poller.wait(timeoutNanoseconds: limit) > 0 else {
                throw Errno.timedOut
            }
            return SocketBox(try listener!.accept())
        }
    }

    func report(withinSeconds seconds: UInt64 = 20) -> SourceReport? {
        run.output(withinSeconds: seconds)
    }
}

/// A socket that several threads of a test use.
final class SocketBox: Sendable {
    let socket: StreamSocket

    init(_ socket: consuming StreamSocket) {
        socket.limitWaits(nanoseconds: 5_000_000_000)
        socket.sendAtOnce()
        self.socket = socket
    }

    /// Answers `false` when the peer has gone.
    @discardableResult
    func send(_ bytes: [UInt8]) -> Bool {
        guard !bytes.isEmpty else { return true }
        return (try? socket.send(bytes.span)) != nil
    }
}

/// Reads both channels of a source and counts every page.
final class PageCounter: Sendable {
    private let geometries: [BlockGeometry]
    private let machineType: String
    private let counts: Mutex<[[Int]]>
    /// PINGs outside the package.
    let pings = Atomic(0)
    /// Raised once the package was read, and at the end of the main channel.
    let packageCame: EventFlag
    private let isComplete = Atomic(false)
    /// Whether the main channel was read to the end of the stream.
    var isWhole: Bool { isComplete.load(ordering: .acquiring) }
    /// Bytes after which the main channel is read no more.
    private let stopsAfter: Int
    private let stopsAtPackage: Bool

    init(
        _ guest: PatternGuest, stopsAfter: Int = .max, stopsAtPackage: Bool = false
    ) throws {
        self.stopsAtPackage = stopsAtPackage
        geometries = guest.memory.map(\.geometry)
        machineType = guest.machineType
        counts = Mutex(geometries.map { Array(repeating: 0, count: $0.targetPageCount) })
        packageCame = try EventFlag()
        self.stopsAfter = stopsAfter
    }

    var counted: [[Int]] { counts.withLock { $0 } }
    var areAllOnce: Bool { counted.allSatisfy { $0.allSatisfy { $0 == 1 } } }

    private func count(_ block: BlockIndex, _ offset: RAMOffset) {
        counts.withLock { $0[block.rawValue][Int(offset.rawValue >> 12)] += 1 }
    }

    /// Reads the main channel to its end, or to what is no stream.
    func readMain(_ box: SocketBox) {
        // Whatever lengths the source lists.
        let blocks = geometries.map { ListedBlock($0, isResizable: true) }
        var decoder = StreamDecoder(blocks: blocks, machineType: machineType)
        var buffer = ReceiveBuffer(capacityBytes: 512 << 10)
        var isAtEnd = false
        while !isAtEnd, decoder.position < stopsAfter,
            let received = try? buffer.fill(from: box.socket, wait: true), received > 0
        {
            let consumed = buffer.withBytes { bytes in
                var start = 0
                while case .item(let item, let count)? = try? decoder.next(in: bytes, from: start) {
                    start += count
                    switch item {
                    case .page(let block, let offset, _), .zeroPage(let block, let offset):
                        self.count(block, offset)
                    case .packageBytes(_, isLast: true): packageCame.raise()
                    case .endOfStream: isAtEnd = true
                    case .command(.ping): pings.add(1, ordering: .relaxed)
                    case .command(.packaged) where stopsAtPackage: isAtEnd = true
                    default: break
                    }
                }
                return start
            }
            buffer.consume(consumed)
        }
        isComplete.store(isAtEnd, ordering: .releasing)
        packageCame.raise()
    }

    /// Reads the urgent channel to its end record.
    func readUrgent(_ box: SocketBox) {
        var decoder = RAMRecordDecoder(blocks: geometries.listed)
        var buffer = ReceiveBuffer(capacityBytes: 64 << 10)
        var isAtEnd = false
        while !isAtEnd, let received = try? buffer.fill(from: box.socket, wait: true), received > 0
        {
            let consumed = buffer.withBytes { bytes in
                var start = 0
                while case .item(let record, let count)? = try? decoder.next(
                    in: bytes, from: start, position: 0)
                {
                    start += count
                    switch record {
                    case .page(let block, let offset, _), .zeroPage(let block, let offset):
                        self.count(block, offset)
                    case .endOfSection: isAtEnd = true
                    case .heartbeat: break
                    }
                }
                return start
            }
            buffer.consume(consumed)
        }
    }
}

/// Return-path bytes.
struct Answers {
    private var encoder: ReturnPathEncoder
    private(set) var bytes: [UInt8] = []

    init(_ guest: PatternGuest) {
        encoder = ReturnPathEncoder(blocks: guest.memory.map(\.geometry))
    }

    mutating func add(_ messages: ReturnPathMessage...) {
        for message in messages { encoder.append(message, to: &bytes) }
    }

    mutating func request(_ block: Int, page: Int, of guest: PatternGuest) {
        let size = guest.memory[block].geometry.hostPage.bytes
        encoder.append(
            .requestPages(
                block: BlockIndex(rawValue: block),
                start: RAMOffset(rawValue: UInt64(page) * size), lengthBytes: size),
            to: &bytes)
    }

    mutating func take() -> [UInt8] {
        defer { bytes = [] }
        return bytes
    }

    static func pong(_ value: UInt8) -> [UInt8] { [0, 2, 0, 4, 0, 0, 0, value] }
    /// What a destination has said by the time the guest may stop.
    static let ready = pong(1) + pong(2)
    static func shut(_ error: UInt8) -> [UInt8] { [0, 1, 0, 4, 0, 0, 0, error] }
}
