import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

/// A destination that the test plays link by link. What it has read counts as placed; what a cut took
/// with it must come again.
struct RecoveringDestination {
    let source: SourceUnderTest
    let token = MigrationToken.random()
    /// Whether it is one of ours, or a QEMU.
    let isOwn: Bool
    /// How often each page was placed, by block.
    private(set) var placed: [[Int]]
    private(set) var wrongPages = 0
    private(set) var hellos: [ChannelHello] = []
    private var received: [ReceivedBitmap]
    private let geometries: [BlockGeometry]
    /// Asked for behind each RESUME_ACK.
    var requests: [(block: Int, page: Int)] = []

    /// Where the test ends a link.
    enum Cut: Equatable {
        case never
        /// Once so many pages were placed in all.
        case pages(Int)
        case package
        /// Behind the hello, without an answer.
        case hello
        case answer
        /// In the middle of the first bitmap.
        case bitmap
        /// Behind all bitmaps.
        case bitmaps
        /// Behind RESUME, without an answer.
        case resume
        /// Once the stream has ended.
        case end
    }

    private let usesUrgent: Bool

    init(_ source: SourceUnderTest, isOwn: Bool = true, usesUrgent: Bool = false) {
        self.source = source
        self.usesUrgent = usesUrgent
        self.isOwn = isOwn
        geometries = source.guest.memory.map(\.geometry)
        placed = geometries.map { Array(repeating: 0, count: $0.targetPageCount) }
        received = geometries.map(ReceivedBitmap.init(block:))
    }

    var offer: ExtensionOffer {
        ExtensionOffer(
            version: Extensions.version, extensions: [.refusalReason, .recovery], token: token)
    }

    /// The list of extensions, in bytes.
    func offered() -> [UInt8] {
        var (encoder, bytes) = (ReturnPathEncoder(blocks: geometries), [UInt8]())
        encoder.append(.extensions(offer), to: &bytes)
        return bytes
    }

    var placedCount: Int { placed.reduce(0) { $0 + $1.reduce(0, +) } }

    /// Each page came once and as the source has it.
    func expectWhole(line: SourceLocation = #_sourceLocation) {
        #expect(placed.allSatisfy { $0.allSatisfy { $0 == 1 } }, sourceLocation: line)
        #expect(wrongPages == 0, sourceLocation: line)
    }

    func encoder() -> ReturnPathEncoder {
        ReturnPathEncoder(blocks: geometries, offered: isOwn ? offer.extensions : nil)
    }

    func message(_ messages: ReturnPathMessage...) -> [UInt8] {
        var (encoder, bytes) = (encoder(), [UInt8]())
        for message in messages { encoder.append(message, to: &bytes) }
        return bytes
    }

    /// The first link, up to the cut.
    /// - Parameter atCut: what happens before it is ended.
    mutating func begin(_ cut: Cut, atCut: () -> Void = {}) throws {
        let main = try source.accept()
        defer { main.socket.shutDown() }
        main.send(Answers.pong(1))
        let urgent = usesUrgent ? try source.accept() : nil
        defer { urgent?.socket.shutDown() }
        let decoder = StreamDecoder(
            blocks: geometries.listed, machineType: source.guest.machineType)
        try read(main, decoder, cut)
        atCut()
    }

    /// A new link up to its hello. What an attempt that was cut has left behind is passed over.
    mutating func comeBack() throws -> SocketBox {
        while true {
            let main = try source.accept()
            guard isOwn else { return main }
            var reader = RawReader()
            let bytes = reader.read(ChannelHello.wireBytes, from: main.socket)
            guard let hello = try ChannelHello.decode(bytes.span) else { continue }
            #expect(hello.token == token)
            guard hello.channel == .main else { continue }
            hellos.append(hello)
            return main
        }
    }

    /// A new link, up to the cut.
    /// - Parameter bitmap: what it makes of the first bitmap.
    mutating func resume(
        _ cut: Cut, answer: RecoveryAnswer = .running,
        bitmap: ([UInt8]) -> [UInt8] = { $0 }
    ) throws {
        let main = try comeBack()
        defer { main.socket.shutDown() }
        if cut == .hello { return }
        if isOwn { main.send(message(.recoveryAnswer(answer))) }
        if cut == .answer { return }
        try #expect(commands(geometries.count, of: main) == geometries.count)
        for block in geometries.indices {
            var (encoder, bytes) = (encoder(), [UInt8]())
            encoder.appendReceivedBitmap(
                of: BlockIndex(rawValue: block), received[block], to: &bytes)
            if block == 0 { bytes = bitmap(bytes) }
            if block == 0, cut == .bitmap { bytes.removeLast(11) }
            main.send(bytes)
            if block == 0, cut == .bitmap { return }
        }
        if cut == .bitmaps { return }
        let urgent = usesUrgent ? try source.accept() : nil
        defer { urgent?.socket.shutDown() }
        if isOwn, let urgent {
            var reader = RawReader()
            let bytes = reader.read(ChannelHello.wireBytes, from: urgent.socket)
            let hello = try #require(try ChannelHello.decode(bytes.span), "no hello")
            #expect(hello.channel == .urgent && hello.attempt == hellos.last?.attempt)
        }
        try #expect(commands(1, of: main) == 1)
        if cut == .resume { return }
        main.send(acknowledgement())
        if answer == .waiting { main.send(message(.pong(PingValue.committedToRun.rawValue))) }
        if let urgent { try readUrgent(urgent, count: requests.count) }
        let decoder = StreamDecoder(
            resuming: geometries.listed, ramSection: source.guest.streamIdentity.ramSection,
            acceptsExtensions: isOwn)
        try read(main, decoder, cut)
    }

    /// A new link that is answered by a last word.
    mutating func refuse(_ messages: ReturnPathMessage...) throws {
        let main = try comeBack()
        var (encoder, bytes) = (encoder(), [UInt8]())
        for message in messages { encoder.append(message, to: &bytes) }
        main.send(bytes)
        var reader = RawReader()
        main.socket.shutDownSending()
        _ = reader.readAll(from: main.socket)
    }

    private func acknowledgement() -> [UInt8] {
        var (encoder, bytes) = (encoder(), [UInt8]())
        encoder.append(.resumeAcknowledged, to: &bytes)
        for (block, page) in requests {
            let size = geometries[block].hostPage.bytes
            encoder.append(
                .requestPages(
                    block: BlockIndex(rawValue: block),
                    start: RAMOffset(rawValue: UInt64(page) * size), lengthBytes: size),
                to: &bytes)
        }
        return bytes
    }

    /// Reads so many commands, PINGs aside; they come alone, since nobody may send before an answer.
    private func commands(_ count: Int, of main: SocketBox) throws -> Int {
        var decoder = StreamDecoder(
            resuming: geometries.listed, ramSection: source.guest.streamIdentity.ramSection,
            acceptsExtensions: isOwn)
        var reader = RawReader()
        var (bytes, start, found) = ([UInt8](), 0, 0)
        while found < count {
            let more = reader.readSome(from: main.socket)
            try #require(!more.isEmpty, "the source ended or is silent")
            bytes += more
            while case .item(let item, let length) = try decoder.next(in: bytes.span, from: start) {
                start += length
                switch item {
                case .command(.receivedBitmap), .command(.postcopyResume): found += 1
                case .command(.ping) where isOwn: break
                default: Issue.record("\(item) on a new link")
                }
            }
        }
        return found
    }

    private mutating func place(
        _ block: BlockIndex, _ offset: RAMOffset, _ bytes: ArraySlice<UInt8>?
    ) {
        let page = Int(offset.rawValue >> 12)
        let expected = source.guest.pageBytes(block: block.rawValue, page: page)
        let isRight = bytes.map { $0.elementsEqual(expected) } ?? expected.allSatisfy { $0 == 0 }
        if !isRight { wrongPages += 1 }
        placed[block.rawValue][page] += 1
        received[block.rawValue].insert(
            HostPageIndex(rawValue: page)..<HostPageIndex(rawValue: page + 1))
    }

    private mutating func read(
        _ main: SocketBox, _ decoder: consuming StreamDecoder, _ cut: Cut
    ) throws {
        var reader = RawReader()
        var (bytes, start, package) = ([UInt8](), 0, [UInt8]())
        while true {
            let more = reader.readSome(from: main.socket)
            try #require(!more.isEmpty, "the source ended or is silent")
            bytes = Array(bytes[start...]) + more
            start = 0
            while case .item(let item, let count) = try decoder.next(in: bytes.span, from: start) {
                start += count
                switch item {
                case .command(.ping(let value)): answer(value, on: main)
                case .packageBytes(let range, let isLast):
                    package += bytes[range]
                    guard isLast else { break }
                    if cut == .package { return }
                    for value in try DevicePackage.parse(package.span, at: 0).pings {
                        answer(value, on: main)
                    }
                case .page(let block, let offset, let payload):
                    place(block, offset, bytes[payload])
                case .zeroPage(let block, let offset): place(block, offset, nil)
                case .endOfStream:
                    if cut == .end { return }
                    main.send(Answers.shut(0))
                    main.socket.shutDownSending()
                    return
                default: break
                }
                if case .pages(let count) = cut, placedCount >= count { return }
            }
        }
    }

    /// Reads so many pages of an urgent channel.
    private mutating func readUrgent(_ urgent: SocketBox, count: Int) throws {
        var decoder = RAMRecordDecoder(blocks: geometries.listed, acceptsHeartbeats: isOwn)
        var reader = RawReader()
        var (bytes, start, found) = ([UInt8](), 0, 0)
        while found < count {
            let more = reader.readSome(from: urgent.socket)
            try #require(!more.isEmpty, "no urgent page")
            bytes += more
            while case .item(let record, let length) = try decoder.next(
                in: bytes.span, from: start, position: 0)
            {
                let range = start..<start + length
                start = range.upperBound
                switch record {
                case .page(let block, let offset, let payload):
                    place(block, offset, bytes[payload])
                    found += 1
                case .zeroPage(let block, let offset):
                    place(block, offset, nil)
                    found += 1
                default: break
                }
            }
        }
    }

    private func answer(_ value: UInt32, on main: SocketBox) {
        if value == Extensions.question, isOwn {
            main.send(offered())
        } else {
            main.send(message(.pong(value)))
        }
    }
}
