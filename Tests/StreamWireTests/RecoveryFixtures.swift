import PageModel
import StreamWire

/// A guest with every size of bitmap: one word that is full, one in part, several, host pages of all
/// kinds, and a block that is ignored.
let recoveredBlocks: [ListedBlock] =
    makeBlocks([
        ("pc.ram", 0x14_3000, .target), ("m0", 0x40_0000, .size2MiB),
        ("/rom@etc/x", 0x1000, .target),
        ("word", 0x4_0000, .target),
    ]).listed + [
        ListedBlock(makeBlocks([("shared", 0x2000, .target)])[0], isIgnored: true)
    ]

private let recovered = recoveredBlocks.map(\.geometry)

let greeting = ChannelHello(token: token, channel: .main, attempt: 3)

/// The main channel of a link of ours that resumes a migration.
let resumedStream: [UInt8] = {
    var bytes: [UInt8] = []
    func add(_ command: Command) {
        StreamEncoder.appendCommand(command, blocks: recovered, to: &bytes)
    }
    var records = RAMRecordEncoder(blocks: recovered)
    add(.hello(greeting))
    for block in 0..<4 { add(.receivedBitmap(block: BlockIndex(rawValue: block))) }
    add(.heartbeat)
    add(.postcopyResume)
    StreamEncoder.appendSectionResumed(id: 7, last: false, to: &bytes)
    records.appendZeroPage(block: ram, offset: at(0x1000), to: &bytes)
    StreamEncoder.appendSectionEnd(id: 7, to: &bytes)
    add(.heartbeat)
    StreamEncoder.appendSectionResumed(id: 7, last: true, to: &bytes)
    records.appendPageHeader(block: ram, offset: at(0x2000), to: &bytes)
    bytes += pattern(2)
    StreamEncoder.appendSectionEnd(id: 7, to: &bytes)
    StreamEncoder.appendEndOfStream(to: &bytes)
    return bytes
}()

func resumedChannel(acceptsExtensions: Bool = true) -> StreamDecoder {
    StreamDecoder(
        resuming: recoveredBlocks, ramSection: 7, acceptsExtensions: acceptsExtensions)
}

/// What the destination has of each block but the last.
let receivedBitmaps: [ReceivedBitmap] = recovered.dropLast().enumerated().map { index, block in
    let received = ReceivedBitmap(block: block)
    for page in 0..<block.hostPageCount where (page * 7 + index) % 5 < 3 {
        received.insert(HostPageIndex(rawValue: page)..<HostPageIndex(rawValue: page + 1))
    }
    return received
}

/// The return path of that link.
let resumedReturnStream: [UInt8] = {
    var encoder = ReturnPathEncoder(blocks: recovered, offered: .ours(forVersion: 2))
    var bytes: [UInt8] = []
    encoder.append(.recoveryAnswer(.running), to: &bytes)
    for (index, received) in receivedBitmaps.enumerated() {
        encoder.appendReceivedBitmap(of: BlockIndex(rawValue: index), received, to: &bytes)
        encoder.append(.heartbeat, to: &bytes)
    }
    encoder.append(.resumeAcknowledged, to: &bytes)
    encoder.append(
        .requestPages(block: ram, start: at(0x1000), lengthBytes: 0x1000), to: &bytes)
    encoder.append(.refusalReason("enough"), to: &bytes)
    encoder.append(.shut(1), to: &bytes)
    return bytes
}()

func resumedReturnPath(offered: Extensions? = .ours(forVersion: 2)) -> ReturnPathDecoder {
    var decoder = ReturnPathDecoder(blocks: recoveredBlocks, offered: offered)
    decoder.expectsBitmaps()
    return decoder
}

/// An urgent channel between peers that agreed on a recovery, behind its hello.
let beatingStream: [UInt8] = {
    var records = RAMRecordEncoder(blocks: blocks)
    var bytes: [UInt8] = []
    RAMRecordEncoder.appendHeartbeat(to: &bytes)
    records.appendZeroPage(block: ram, offset: at(0x3000), to: &bytes)
    RAMRecordEncoder.appendHeartbeat(to: &bytes)
    RAMRecordEncoder.appendHeartbeat(to: &bytes)
    // In the same block as before: a heartbeat names none.
    records.appendZeroPage(block: ram, offset: at(0x4000), to: &bytes)
    RAMRecordEncoder.appendHeartbeat(to: &bytes)
    RAMRecordEncoder.appendEndOfSection(to: &bytes)
    return bytes
}()
