import PageModel

/// What a QEMU punishes in what its peer writes, and what its peer can be blamed for.
enum StockQEMULaw: String, CaseIterable, Sendable {
    // The source's main channel.
    case head = "magic, version 3 and the configuration come first"
    case item = "only sections, commands and the end of the stream stand at the top"
    case command = "only commands 1, 2, 3, 6 and 7 stand outside the package, with their lengths"
    case returnPathFirst = "OPEN_RETURN_PATH comes once, before any PING"
    case advise = "ADVISE comes once, before any memory, with the page sizes of the blocks"
    case section = "one section 'ram', started once, resumed by its id, closed by its footer"
    case blockList = "the blocks are listed with their lengths, and larger pages with their size"
    case record = "memory is zero pages and pages: no list, XBZRLE, RDMA, COMPRESS, multifd flag"
    case blockNamed = "a page names a block there is, and CONTINUE one that was named"
    case pageInside = "a page lies inside its block"
    case zeroFill = "a zero page is filled with 0"
    case discardShape = "1 to 12 ranges of whole host pages inside their block"
    case discardEarly = "DISCARD stands behind the block list and before the package"
    case discardDue = "at least one DISCARD comes before LISTEN"
    case package = "one package: LISTEN first; PING 3, PING 0x42 and RUN last"
    case owed = "after the package only discarded pages are sent"
    case sentOnce = "after the package each page is sent once"
    case hostPageWhole = "the pages of a host page follow each other on their channel"
    case hostPageSplit = "a host page travels on one channel"
    case endOfStream = "the section's end and the end of the stream come last"
    case allSent = "the end of the stream comes when all that was discarded is sent"
    // The source's urgent channel, and its connections.
    case urgentEnd = "the urgent channel ends with its end word, and nothing follows"
    case urgentAsked = "the urgent channel brings what was asked for"
    case connections = "a main channel and at most one urgent one, which is only read"
    // The destination's return path.
    case returnPathOpen = "nothing is answered before the return path is open"
    case message = "only SHUT, PONG and page requests are sent, with their lengths"
    case pongAsked = "each PONG answers a PING that came"
    case pongDue = "each PING is answered"
    case commitment = "PONG 0x42 comes behind the package"
    case requestTime = "no page is asked for before LISTEN"
    case requestNamed = "a request names its block when that changes"
    case requestShape = "a request is for one whole host page inside its block"
    case shutLast = "SHUT comes once and last"
    case shutEarly = "SHUT 0 comes when the stream has ended and all pages have come"
    case shutCommitted = "behind PONG 0x42 no SHUT says failure"
}

/// Judges what both ends of a migration wrote by what a QEMU at the other end would do to them. It
/// reads the bytes itself.
///
/// Source: `qemu_loadvm_state_main`, `ram_load_postcopy` (`migration/savevm.c`, `ram.c`);
/// `source_return_path_thread` (`migration/migration.c`).
struct StockQEMU {
    /// How far the migration came, and so what must be there.
    enum Ending {
        case completed
        /// The destination said no.
        case refused
        /// The source went, or the link.
        case cut
    }

    struct Breach: CustomStringConvertible {
        let law: StockQEMULaw
        let detail: String
        var description: String { "\(law.rawValue): \(detail)" }
    }

    struct Page: Hashable {
        let block: Int
        let page: Int
    }

    /// Where a page that was owed was sent.
    struct Sending {
        let channel: Int
        let start: Int
        let end: Int
    }

    /// Nothing that follows can be read.
    enum Stop: Error {
        case cut
        case lost
    }

    let blocks: [BlockGeometry]
    let ending: Ending
    var breaches: [Breach] = []
    /// PINGs, and how much of the main channel must be read to know them.
    var pings: [(value: UInt32, end: Int)] = []
    /// How much of the main channel brings the return path, the package, the end.
    var returnPathEnd: Int?
    var packageEnd: Int?
    var streamEnd: Int?
    var isAdvised = false
    var section: UInt32?
    var sectionHasEnded = false
    var hasDiscards = false
    var owed: Set<Page> = []
    var sendings: [Page: Sending] = [:]
    var hostPageChannels: [Page: Int] = [:]
    /// Requested host pages, and how much of the return path asks for them.
    var requests: [Page: Int] = [:]

    static func judge(
        _ migration: RecordedMigration, blocks: [BlockGeometry], ending: Ending
    ) -> [Breach] {
        var judge = StockQEMU(blocks: blocks, ending: ending)
        judge.readMain(migration.bytes(channel: 0, isFromSource: true))
        judge.readUrgent(migration)
        judge.readAnswers(migration)
        judge.compareUrgent(migration)
        judge.compareEnds()
        return judge.breaches
    }

    private init(blocks: [BlockGeometry], ending: Ending) {
        self.blocks = blocks
        self.ending = ending
    }

    mutating func note(_ law: StockQEMULaw, _ detail: String) {
        breaches.append(Breach(law: law, detail: detail))
    }

    mutating func check(_ isKept: Bool, _ law: StockQEMULaw, _ detail: @autoclosure () -> String) {
        if !isKept { note(law, detail()) }
    }

    /// Notes a breach behind which the bytes cannot be read.
    mutating func require(
        _ isKept: Bool, _ law: StockQEMULaw, _ detail: @autoclosure () -> String
    ) throws(Stop) {
        guard !isKept else { return }
        note(law, detail())
        throw .lost
    }

    func block(named name: [UInt8]) -> Int? {
        blocks.firstIndex { Array($0.name.utf8) == name }
    }

    private mutating func compareEnds() {
        // Of a link that was cut, one channel may have been read further than the other.
        guard ending == .completed else { return }
        check(streamEnd != nil, .endOfStream, "there is none")
        let missing = owed.count { sendings[$0] == nil }
        check(missing == 0, .allSent, "\(missing) are missing")
    }
}

/// Reads big-endian numbers and names.
struct WireReader {
    let bytes: [UInt8]
    private(set) var at = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { at == bytes.count }
    var count: Int { bytes.count - at }

    mutating func number(_ length: Int) throws(StockQEMU.Stop) -> UInt64 {
        guard count >= length else { throw .cut }
        defer { at += length }
        return bytes[at..<at + length].reduce(0) { $0 << 8 | UInt64($1) }
    }

    mutating func take(_ length: Int) throws(StockQEMU.Stop) -> [UInt8] {
        guard count >= length else { throw .cut }
        defer { at += length }
        return Array(bytes[at..<at + length])
    }

    mutating func skip(_ length: Int) throws(StockQEMU.Stop) {
        guard count >= length else { throw .cut }
        at += length
    }

    mutating func name() throws(StockQEMU.Stop) -> [UInt8] { try take(Int(try number(1))) }
}
