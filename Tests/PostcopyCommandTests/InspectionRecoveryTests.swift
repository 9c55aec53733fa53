import PageModel
import StreamWire
import TestSupport
import Testing

@testable import PostcopyCommand

private let token = MigrationToken(high: 1, low: 2)

/// A small migration whose link breaks behind its package, and one that takes it up.
private enum BrokenMigration {
    static func commands(_ commands: [Command]) -> [UInt8] {
        var stream = SmallMigration()
        for command in commands { stream.add(command) }
        return stream.bytes
    }

    static let main: [UInt8] = {
        var stream = SmallMigration()
        stream.begin()
        stream.add(.ping(Extensions.question))
        stream.add(.heartbeat)
        stream.add(.heartbeat)
        stream.part(SmallMigration.ram, SmallMigration.ramPages)
        stream.discard(SmallMigration.ram, 0x3000, 0x3000)
        stream.discard(SmallMigration.huge, 0, 0x20_0000)
        stream.add(.ping(2))
        stream.package()
        stream.part(SmallMigration.ram, [0x4000])
        stream.part(SmallMigration.huge, SmallMigration.hugePages[..<100])
        return stream.bytes + [0x02, 0]
    }()

    static let returnPath = answers([
        .pong(1),
        .extensions(
            ExtensionOffer(version: 2, extensions: .ours(forVersion: 2), token: token)),
        .heartbeat, .heartbeat, .pong(2),
    ])

    static var resumed: LinkBytes {
        var stream = SmallMigration()
        stream.add(.hello(ChannelHello(token: token, channel: .main, attempt: 1)))
        stream.add(.receivedBitmap(block: SmallMigration.ram))
        stream.add(.receivedBitmap(block: SmallMigration.huge))
        stream.add(.heartbeat)
        stream.add(.postcopyResume)
        // 0x4000 was on its way when the link broke.
        stream.part(SmallMigration.ram, [0x3000, 0x4000])
        stream.part(SmallMigration.huge, SmallMigration.hugePages, isLast: true)
        stream.endOfStream()
        return LinkBytes(main: stream.bytes, returnPath: resumedReturnPath, preempt: preempt)
    }

    static let preempt: [UInt8] = {
        var channel = SmallMigration()
        channel.add(.hello(ChannelHello(token: token, channel: .urgent, attempt: 1)))
        RAMRecordEncoder.appendHeartbeat(to: &channel.bytes)
        channel.zeros(SmallMigration.ram, [0x5000])
        RAMRecordEncoder.appendHeartbeat(to: &channel.bytes)
        RAMRecordEncoder.appendHeartbeat(to: &channel.bytes)
        RAMRecordEncoder.appendEndOfSection(to: &channel.bytes)
        return channel.bytes
    }()

    static let resumedReturnPath: [UInt8] = {
        var encoder = ReturnPathEncoder(
            blocks: SmallMigration.blocks, offered: .ours(forVersion: 2))
        var bytes: [UInt8] = []
        encoder.append(.recoveryAnswer(.running), to: &bytes)
        let received = ReceivedBitmap(block: SmallMigration.blocks[0])
        received.insert(HostPageIndex(rawValue: 0)..<HostPageIndex(rawValue: 3))
        received.insert(HostPageIndex(rawValue: 6)..<HostPageIndex(rawValue: 16))
        encoder.appendReceivedBitmap(of: SmallMigration.ram, received, to: &bytes)
        encoder.appendReceivedBitmap(
            of: SmallMigration.huge, ReceivedBitmap(block: SmallMigration.blocks[1]), to: &bytes)
        encoder.append(.resumeAcknowledged, to: &bytes)
        encoder.append(.heartbeat, to: &bytes)
        encoder.append(.shut(0), to: &bytes)
        return bytes
    }()

    static func answers(_ messages: [ReturnPathMessage]) -> [UInt8] {
        var encoder = ReturnPathEncoder(blocks: SmallMigration.blocks)
        var bytes: [UInt8] = []
        for message in messages { encoder.append(message, to: &bytes) }
        return bytes
    }
}

@Suite("an inspection of a recovery")
struct InspectionRecoveryTests {
    private func document(
        _ resumed: [LinkBytes] = [BrokenMigration.resumed], detail: InspectionDetail = .summary
    ) throws -> InspectionDocument {
        try inspection(
            BrokenMigration.main, returnPath: BrokenMigration.returnPath, preempt: [],
            resumed: resumed, detail: detail)
    }

    @Test("a migration that broke and was resumed is good, and every byte belongs to an item")
    func whole() throws {
        for detail in [InspectionDetail.summary, .sections, .runs] {
            let document = try document(detail: detail)
            #expect(document.status == "good", "\(document)")
            #expect(document.ending == "complete by postcopy")
            let link = try #require(document.resumed?.first)
            let channels = [
                document.main, document.returnPath, document.preempt, link.main, link.returnPath,
                link.preempt,
            ]
            for channel in channels {
                let channel = try #require(channel)
                #expect(channel.problems == [])
                expectTiled(channel)
            }
        }
    }

    @Test("each channel shows what a recovery adds to it")
    func items() throws {
        let document = try document()
        #expect(document.main.items.contains { $0.kind == .heartbeats && $0.count == 2 })
        #expect(document.main.items.last?.kind == .linkLost)
        let path = try #require(document.returnPath)
        #expect(path.items.map(\.kind) == [.pong, .extensions, .heartbeats, .pong, .linkLost])
        #expect(path.items[1].token == token.description)
        #expect(path.items[1].value == 3)
        let link = try #require(document.resumed?.first)
        #expect(
            link.main.items.map(\.kind) == [
                .hello, .bitmapRequest, .bitmapRequest, .heartbeats, .resume, .pages, .pages,
                .endOfStream,
            ])
        #expect(link.main.items[0].token == token.description)
        #expect(link.main.items[0].channel == "main")
        #expect(link.main.items[0].value == 1)
        #expect(link.main.items[2].blocks?.map(\.name) == ["m0"])
        #expect(
            link.returnPath?.items.map(\.kind) == [
                .recoveryAnswer, .bitmap, .bitmap, .resumeAcknowledged, .heartbeats, .shut,
            ])
        #expect(link.returnPath?.items[0].value == 1)
        #expect(link.returnPath?.items[1].blocks?.map(\.received) == [13])
        #expect(link.returnPath?.items[2].blocks?.map(\.received) == [0])
        #expect(
            link.preempt?.items.map(\.kind) == [.hello, .heartbeats, .pages, .heartbeats, .end])
        #expect(link.preempt?.items.map(\.count) == [nil, 1, nil, 2, nil])
        #expect(link.preempt?.items.first?.channel == "urgent")
    }

    @Test("without the link that resumes it a broken migration is wrong")
    func alone() throws {
        let document = try document([])
        #expect(document.status == "wrong")
        #expect(document.main.problems.count == 1)
        #expect(document.returnPath?.problems.count == 1)
    }

    @Test("a link that breaks again is taken up by the next")
    func twice() throws {
        let whole = BrokenMigration.resumed
        for length in stride(from: 0, to: whole.main.count, by: 7) {
            let cut = LinkBytes(main: Array(whole.main.prefix(length)), preempt: [])
            let document = try document([cut, whole])
            #expect(document.status == "good", "\(length): \(document)")
            #expect(document.resumed?.first?.main.items.last?.kind == .linkLost)
        }
        for length in 0..<(whole.returnPath?.count ?? 0) {
            let cut = LinkBytes(
                main: [], returnPath: Array(whole.returnPath?.prefix(length) ?? []), preempt: [])
            let document = try document([cut, whole])
            #expect(document.status == "good", "\(length)")
            let path = try #require(document.resumed?.first?.returnPath)
            expectTiled(path)
        }
    }

    @Test("a page that comes twice on the link that resumes is told")
    func twicePage() throws {
        var stream = SmallMigration()
        stream.add(.postcopyResume)
        stream.part(SmallMigration.ram, [0x3000])
        stream.part(SmallMigration.ram, [0x3000], isLast: true)
        stream.endOfStream()
        let document = try document([LinkBytes(main: stream.bytes)])
        #expect(document.resumed?.first?.main.problems.first?.text.contains("came again") == true)
    }

    @Test("nothing resumes a migration that was in its precopy")
    func early() throws {
        let main = Array(SmallMigration.postcopy.prefix(400))
        let document = try inspection(main, resumed: [BrokenMigration.resumed])
        #expect(document.status == "wrong")
        #expect(document.main.problems.count == 1)
        #expect(
            document.resumed?.first?.main.problems.first?.text
                == "not read: the first link did not get to the postcopy")
    }

    @Test("the first bytes tell what a file of a recovery holds")
    func kinds() {
        let link = BrokenMigration.resumed
        #expect(ChannelKind(link.main) == .recovery)
        #expect(ChannelKind(BrokenMigration.commands([.postcopyResume])) == .recovery)
        #expect(ChannelKind(link.returnPath ?? []) == .returnPath)
        #expect(ChannelKind(link.preempt ?? []) == .preempt)
        #expect(ChannelKind([0x50, 0x46, 0, 0]) == .returnPath)
        #expect(ChannelKind([0x50, 0x44, 0, 1, 0x61]) == .returnPath)
        #expect(ChannelKind([0x50, 0x47, 0, 0]) == .unknown)
    }

    @Test("each item has its line")
    func text() throws {
        let document = try document()
        let link = try #require(document.resumed?.first)
        let items = [link.main, try #require(link.returnPath), try #require(link.preempt)]
        let lines = items.flatMap(\.items).flatMap(InspectionText(offsetDigits: 8).lines)
        for text in [
            "hello             main channel, link 1, migration \(token)", "RECV_BITMAP       m0",
            "heartbeat x 2", "POSTCOPY_RESUME", "13 received", "RESUME_ACK",
            "answer            go on: the guest runs there",
        ] {
            #expect(lines.contains { $0.contains(text) }, "\(text): \(lines)")
        }
    }
}
