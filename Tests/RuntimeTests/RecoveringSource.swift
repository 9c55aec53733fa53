import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

/// A source that the test plays: its link breaks behind the package, and it comes back.
struct RecoveringSource {
    let destination: DestinationUnderTest
    private var script: SourceScript
    private(set) var token = MigrationToken(high: 0, low: 0)

    init(vcpus: Bool = true, linkLimitMilliseconds: UInt64 = 20_000) throws {
        script = SourceScript(guest: try sparseGuest())
        let guest = try PatternGuest(blocks: SourceScript.blocks, vcpuCount: 2)
        guest.expect(only: SourceScript.pagesWithContent)
        destination = try DestinationUnderTest(
            guest, options: recoveringOptions(limitMilliseconds: linkLimitMilliseconds),
            vcpus: vcpus)
    }

    init(to destination: DestinationUnderTest) throws {
        script = SourceScript(guest: try sparseGuest())
        self.destination = destination
    }

    func connect() throws -> SocketBox {
        SocketBox(try StreamSocket.connect(to: destination.address))
    }

    func hello(
        _ attempt: UInt32, token: MigrationToken? = nil, channel: ChannelHello.Channel = .main
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        ChannelHello(token: token ?? self.token, channel: channel, attempt: attempt)
            .append(to: &bytes)
        return bytes
    }

    /// What a visitor is told who says `bytes`, up to the destination's end.
    func knock(_ bytes: [UInt8]) throws -> [Message] {
        let visitor = try connect()
        visitor.send(bytes)
        var reader = RawReader()
        return Message.all(of: reader.readAll(from: visitor.socket))
    }

    /// The first link, whose last byte is the package's; it ends when the guest runs there.
    /// - Parameter shares: of the stream in front of the package's end.
    mutating func begin(share: Double = 1) throws {
        try open(share: share).socket.shutDown()
    }

    /// The first link up to what the destination says behind the package.
    /// - Parameter word: what is waited for of that; by itself what a guest that runs there says, or
    ///   the first answer where not all of it is sent.
    mutating func open(
        share: Double = 1, upTo word: [UInt8]? = nil
    ) throws -> SocketBox {
        let main = try connect()
        let question = SourceScript.commands([.ping(Extensions.question)], [])
        let ping = SourceScript.commands([.openReturnPath, .ping(1)], [])
        var bytes = script.beforePackage + script.package
        let place = try #require(bytes.firstRange(of: ping)?.upperBound)
        bytes.insert(contentsOf: question, at: place)
        main.send(Array(bytes.prefix(Int(Double(bytes.count) * share))))
        var reader = RawReader()
        let usual = Answers.pong(share < 1 ? 1 : 0x42)
        let said = reader.read(upTo: word ?? usual, from: main.socket)
        if share == 1 || word != nil { try learn(Message.all(of: said)) }
        return main
    }

    private mutating func learn(_ messages: [Message]) throws {
        let offer = try #require(messages.first { $0.type == 0x5043 })
        try #require(offer.payload.count >= 22)
        let words = (0..<2).map { word in
            offer.payload[(6 + 8 * word)..<(14 + 8 * word)].reduce(UInt64(0)) {
                $0 << 8 | UInt64($1)
            }
        }
        token = MigrationToken(high: words[0], low: words[1])
    }

    /// A new link, up to its answer.
    func comeBack(_ attempt: UInt32) throws -> (SocketBox, [Message]) {
        let main = try connect()
        main.send(hello(attempt))
        var reader = RawReader()
        return (main, Message.all(of: reader.read(8, from: main.socket)))
    }

    /// The rest of the migration on a link that was let in.
    /// - Returns: all that the destination said on it.
    mutating func finish(on main: SocketBox, acknowledges: Bool = true) throws -> [UInt8] {
        let geometries = destination.guest.memory.map(\.geometry)
        main.send(
            SourceScript.commands(
                geometries.indices.map { .receivedBitmap(block: BlockIndex(rawValue: $0)) }
                    + [.postcopyResume], geometries))
        var reader = RawReader()
        var said = reader.read(upTo: [0, 6, 0, 4, 0, 0, 0, 1], from: main.socket)
        let urgent = script.section(last: false) { script, bytes in
            for page in 12..<16 {
                script.append(1, page, content: script.content(1, page), to: &bytes)
            }
        }
        main.send(script.postcopy + urgent + script.end)
        said += reader.readSuccess(from: main.socket)
        if acknowledges { main.send(SourceScript.commands([.heartbeat], [])) }
        main.socket.shutDownSending()
        said += reader.readAll(from: main.socket)
        return said
    }

    /// Comes back as it should and expects all to be well.
    mutating func complete(
        attempt: UInt32, _ note: Comment? = nil, line: SourceLocation = #_sourceLocation
    ) throws {
        let (main, answer) = try comeBack(attempt)
        #expect(
            answer == [.answer(.running)], note, sourceLocation: line)
        _ = try finish(on: main)
        try expectCompleted(note, line: line)
    }

    @discardableResult
    func expectCompleted(
        _ note: Comment? = nil, line: SourceLocation = #_sourceLocation
    ) throws -> DestinationReport {
        let report = try #require(destination.report(), note, sourceLocation: line)
        #expect(
            report.status == .completed, "\(report.problem ?? "")", sourceLocation: line)
        #expect(report.problem == nil, note, sourceLocation: line)
        #expect(destination.guest.wrongWords() == 0, note, sourceLocation: line)
        let mismatches = destination.guest.mismatches.load(ordering: .relaxed)
        #expect(mismatches == 0, note, sourceLocation: line)
        return report
    }
}

/// A message of a return path without bitmaps; a rest that is no whole one has type 0.
struct Message: Equatable {
    let type: Int
    let payload: [UInt8]

    static func all(of bytes: [UInt8]) -> [Message] {
        var (messages, rest) = ([Message](), bytes[...])
        while !rest.isEmpty {
            let head = Array(rest.prefix(4))
            let length = head.count == 4 ? Int(head[2]) << 8 | Int(head[3]) : .max
            guard length <= rest.count - 4 else {
                return messages + [Message(type: 0, payload: Array(rest))]
            }
            messages.append(
                Message(
                    type: Int(head[0]) << 8 | Int(head[1]),
                    payload: Array(rest.dropFirst(4).prefix(length))))
            rest = rest.dropFirst(4 + length)
        }
        return messages
    }

    static func answer(_ answer: RecoveryAnswer) -> Message {
        var (encoder, bytes) = (
            ReturnPathEncoder(blocks: [], offered: [.refusalReason, .recovery]), [UInt8]()
        )
        encoder.append(.recoveryAnswer(answer), to: &bytes)
        return all(of: bytes)[0]
    }

    var text: String { String(decoding: payload, as: UTF8.self) }
}
