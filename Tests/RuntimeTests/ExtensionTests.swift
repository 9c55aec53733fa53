import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

/// What a destination wrote, cut into its messages; bytes that make no whole one are a message of
/// type 0.
private func messages(of bytes: [UInt8]) -> [(type: Int, payload: [UInt8])] {
    var messages: [(type: Int, payload: [UInt8])] = []
    var rest = bytes[...]
    while !rest.isEmpty {
        guard rest.count >= 4 else { return messages + [(0, Array(rest))] }
        let head = Array(rest.prefix(4))
        let length = Int(head[2]) << 8 | Int(head[3])
        guard rest.count >= 4 + length else { return messages + [(0, Array(rest))] }
        messages.append(
            (Int(head[0]) << 8 | Int(head[1]), Array(rest.dropFirst(4).prefix(length))))
        rest = rest.dropFirst(4 + length)
    }
    return messages
}

/// A destination that a QEMU source drives never says what QEMU does not know.
extension RuntimeLaws.ScriptedSourceTests {
    static let question = commands(.ping(Extensions.question))

    /// All that the destination answers to `bytes`, up to its end.
    private func answers(
        to bytes: [UInt8], _ destination: DestinationUnderTest, until word: [UInt8]
    ) throws -> [UInt8] {
        let main = try StreamSocket.connect(to: destination.address)
        main.limitWaits(nanoseconds: 5_000_000_000)
        try? main.send(bytes.span)
        var reader = RawReader()
        let answers = reader.read(upTo: word, from: main)
        main.shutDownSending()
        return answers + reader.readAll(from: main)
    }

    private func expectQEMUsOnly(
        _ bytes: [UInt8], _ note: Comment, line: SourceLocation = #_sourceLocation
    ) {
        let types = messages(of: bytes).map(\.type)
        #expect(types.allSatisfy { (1...4).contains($0) }, note, sourceLocation: line)
    }

    @Test("unasked, it refuses in QEMU's words", arguments: heads + orders)
    func refusesInQEMUsWords(_ refused: Refused) throws {
        var script = script
        let destination = try destination()
        let said = try answers(
            to: refused.make(&script), destination, until: Answers.shut(1))
        #expect(try #require(destination.report()).status == .failed)
        expectQEMUsOnly(said, "\(refused)")
    }

    @Test("unasked, it pauses in QEMU's words", arguments: late)
    func pausesInQEMUsWords(_ refused: Refused) throws {
        var script = script
        let destination = try destination(testOptions(silenceMilliseconds: 300), vcpus: true)
        let main = try StreamSocket.connect(to: destination.address)
        main.limitWaits(nanoseconds: 5_000_000_000)
        try main.send((script.beforePackage + script.package).span)
        var reader = RawReader()
        var said = reader.readCommit(from: main)
        try main.send(refused.make(&script).span)
        said += reader.readAll(from: main)
        #expect(try #require(destination.report()).status == .postcopyPaused)
        #expect(said.contains(Answers.pong(0x42)))
        expectQEMUsOnly(said, "\(refused)")
    }

    @Test("unasked, it completes in QEMU's words, and takes a neighbouring value for a PING")
    func completesInQEMUsWords() throws {
        let near = Self.commands(.ping(0x5042_ffff), .ping(0x5044_0000), .ping(0x5043))
        let destination = try destination()
        script.expectNoQuestion()
        let opening = script.head + script.setup
        let main = SocketBox(try StreamSocket.connect(to: destination.address))
        let urgent = SocketBox(try StreamSocket.connect(to: destination.address))
        main.send(opening + near + script.beforePackage.dropFirst(opening.count) + script.package)
        var reader = RawReader()
        var said = reader.readCommit(from: main.socket)
        urgent.send(script.urgent)
        main.send(script.postcopy + script.end)
        said += reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        #expect(try #require(destination.report()).status == .completed)
        expectQEMUsOnly(said, "completed")
        let pongs = messages(of: said).filter { $0.type == 2 }.map(\.payload)
        for value: [UInt8] in [[0x50, 0x42, 0xff, 0xff], [0x50, 0x44, 0, 0], [0, 0, 0x50, 0x43]] {
            #expect(pongs.contains(value))
        }
    }

    @Test("unasked, it is cancelled, cut off and met by silence in QEMU's words", arguments: 0..<3)
    func endsInQEMUsWords(ending: Int) throws {
        let destination = try destination(testOptions(silenceMilliseconds: 300))
        let main = try StreamSocket.connect(to: destination.address)
        main.limitWaits(nanoseconds: 5_000_000_000)
        try main.send(script.beforePackage.span)
        var reader = RawReader()
        var said = reader.read(8, from: main)
        if ending == 0 { destination.cancel() }
        if ending == 1 { main.shutDownSending() }
        said += reader.readAll(from: main)
        #expect(try #require(destination.report()).status == .failed)
        expectQEMUsOnly(said, "ending \(ending)")
    }

    /// Those that are refused once the return path is open: before, nobody can be told.
    static let answerable = (heads + orders).filter { refused in
        guard let guest = try? sparseGuest() else { return false }
        var script = SourceScript(guest: guest)
        let head = script.head
        return refused.make(&script).starts(
            with: head + commands(.openReturnPath, .ping(1)))
    }

    @Test("asked, it says what it can, and why it refuses", arguments: answerable)
    func refusesWithReason(_ refused: Refused) throws {
        var script = script
        let destination = try destination()
        var bytes = refused.make(&script)
        let ping = Self.commands(.openReturnPath, .ping(1))
        let place = try #require(bytes.firstRange(of: ping)?.upperBound)
        bytes.insert(contentsOf: Self.question, at: place)
        let said = messages(
            of: try answers(to: bytes, destination, until: Answers.shut(1)))
        let report = try #require(destination.report())
        #expect(said.first?.payload == [0, 0, 0, 1])
        #expect(said.dropFirst().first?.type == 0x5043)
        // A token of 16 bytes follows.
        #expect(said.dropFirst().first?.payload.starts(with: [0, 2, 0, 0, 0, 3]) == true)
        #expect(said.dropFirst().first?.payload.count == 22)
        #expect(said.suffix(2).map(\.type) == [0x5044, 1])
        let reason = try #require(said.dropLast().last?.payload)
        #expect(String(decoding: reason, as: UTF8.self) == report.problem)
        #expect(said.filter { $0.type > 4 }.count == 2)
        #expect(!said.contains { $0.type == 2 && $0.payload.starts(with: [0x50, 0x43]) })
    }

    @Test("asked again, it answers nothing")
    func askedTwice() throws {
        let destination = try destination()
        let bytes =
            script.head + Self.commands(.openReturnPath, .ping(1)) + Self.question + Self.question
            + Self.commands(.ping(5))
        let main = try StreamSocket.connect(to: destination.address)
        main.limitWaits(nanoseconds: 5_000_000_000)
        try main.send(bytes.span)
        var reader = RawReader()
        let said = reader.read(upTo: Answers.pong(5), from: main)
        #expect(messages(of: said).map(\.type) == [2, 0x5043, 2])
        destination.cancel()
        #expect(try #require(destination.report()).status == .failed)
    }
}

extension SourceScript {
    /// The script is a QEMU's: it asks for nothing.
    fileprivate func expectNoQuestion() {
        #expect(!main.contains(RuntimeLaws.ScriptedSourceTests.question))
    }
}

/// A destination as QEMU's: answers each PING by its value, and says SHUT 0 at the end.
private struct StockDestination {
    let source: SourceUnderTest
    /// What it says instead of the PONG to a question.
    var answer: [UInt8]?
    /// What it says in front of SHUT.
    var beforeShut: [UInt8] = []
    private(set) var bytes: [UInt8] = []
    private(set) var pings: [UInt32] = []

    init(_ source: SourceUnderTest) { self.source = source }

    mutating func run() throws {
        let main = try source.accept()
        let geometries = source.guest.memory.map(\.geometry)
        var decoder = StreamDecoder(
            blocks: geometries.listed, machineType: source.guest.machineType)
        var reader = RawReader()
        var start = 0
        var package: [UInt8] = []
        while true {
            let more = reader.readSome(from: main.socket)
            try #require(!more.isEmpty, "the source ended or is silent")
            bytes += more
            while case .item(let item, let count) = try decoder.next(in: bytes.span, from: start) {
                start += count
                switch item {
                case .command(.ping(let value)): answer(value, on: main)
                case .packageBytes(let range, let isLast):
                    package += bytes[range]
                    guard isLast else { break }
                    for value in try DevicePackage.parse(package.span, at: 0).pings {
                        answer(value, on: main)
                    }
                case .endOfStream:
                    main.send(beforeShut + Answers.shut(0))
                    main.socket.shutDownSending()
                    return
                default: break
                }
            }
        }
    }

    private mutating func answer(_ value: UInt32, on main: SocketBox) {
        pings.append(value)
        if value == Extensions.question, let answer {
            main.send(answer)
        } else {
            let payload = (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
            main.send([0, 2, 0, 4] + payload)
        }
    }
}

extension RuntimeLaws.ScriptedDestinationTests {
    @Test("the question is one ordinary PING behind the first, and its PONG changes nothing")
    func question() throws {
        let source = try SourceUnderTest(
            try sparseGuest(), options: testOptions(preempt: false))
        var stock = StockDestination(source)
        try stock.run()
        try Self.check(source, .completed, "")
        #expect(stock.pings.starts(with: [1, Extensions.question, 2]))
        let others = stock.pings.filter { $0 != Extensions.question }
        #expect(others.allSatisfy { PingValue(rawValue: $0) != nil })
        #expect(others.count == stock.pings.count - 1)

        let plain = SourceScript(guest: source.guest)
        let ping: [UInt8] = [8, 0, 2, 0, 4, 0x50, 0x43, 0, 2]
        let place = try #require(stock.bytes.firstRange(of: ping))
        var rest = stock.bytes
        rest.removeSubrange(place)
        #expect(rest.starts(with: plain.head + plain.setup))
        #expect(rest.firstRange(of: ping) == nil)
    }

    @Test("extensions of a later version, and a reason in front of SHUT 0, change nothing")
    func laterVersion() throws {
        let source = try Self.source()
        var stock = StockDestination(source)
        let token = [UInt8](repeating: 0x77, count: 16)
        stock.answer = [0x50, 0x43, 0, 24, 0, 9, 0xff, 0xff, 0xff, 0xff] + token + [1, 2]
        stock.beforeShut = [0x50, 0x44, 0, 1, 0x61]
        try stock.run()
        try Self.check(source, .completed, "")
        #expect(stock.pings.allSatisfy { $0 == Extensions.question || $0 <= 0x42 })
    }

    @Test("the source shows why it was refused, without control characters")
    func reason() throws {
        let source = try Self.source(starts: false)
        let main = try source.accept()
        // Until the question is here: before, nobody may answer it.
        var reader = RawReader()
        _ = reader.read(upTo: RuntimeLaws.ScriptedSourceTests.question, from: main.socket)
        let text = Array("no \u{1b}[2Jroom\u{9b}\u{e4}".utf8)
        main.send(
            Self.extensions + [0x50, 0x44, 0, UInt8(text.count)] + text + Answers.pong(1)
                + Answers.shut(1))
        try Self.check(
            source, .failed, "the destination refused: no \\u{1b}[2Jroom\\u{9b}\u{e4}")
    }
}
