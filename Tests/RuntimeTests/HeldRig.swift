import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

/// How long a thread may take to get to where a test waits for it.
private let patienceSeconds: UInt64 = 20
private let patienceNanoseconds = patienceSeconds * 1_000_000_000

/// Waits as long as a loaded machine may need.
func atLast(_ condition: () -> Bool) -> Bool {
    eventually(withinSeconds: patienceSeconds, condition)
}

/// Holds the first thread that comes, until the test lets it go.
final class Gate: Sendable {
    private let came: EventFlag
    private let opened: EventFlag
    private let isTaken = Atomic(false)

    init() throws {
        came = try EventFlag()
        opened = try EventFlag()
    }

    func pass() {
        guard !isTaken.exchange(true, ordering: .acquiringAndReleasing) else { return }
        came.raise()
        // A test that failed forgets to open.
        _ = opened.wait(timeoutNanoseconds: 2 * patienceNanoseconds)
    }

    /// Waits until somebody is held.
    func holds() -> Bool { came.wait(timeoutNanoseconds: patienceNanoseconds) }

    func open() { opened.raise() }
}

/// A thread of a guest that reads one page.
final class Toucher: Sendable {
    private let thread: Bounded<UInt64>
    private let path: String

    init(_ guest: PatternGuest, block: Int, page: Int) throws {
        let ram = guest.memory[block]
        let started = try EventFlag()
        let number = SharedNumber()
        thread = try Bounded("vcpu") {
            number.value.store(currentThreadID(), ordering: .relaxed)
            started.raise()
            return ram.loadWord(at: UInt64(page) << 12)
        }
        started.wait()
        path = "/proc/self/task/\(number.value.load(ordering: .relaxed))/stat"
    }

    private final class SharedNumber: Sendable {
        let value = Atomic<Int32>(0)
    }

    /// Waits until the thread sleeps in the kernel, which it does in a fault alone.
    func sleeps() -> Bool {
        atLast {
            // The state stands behind the name, which stands in parentheses.
            let state = Leftovers.firstLine(of: path).split(separator: ")").last ?? ""
            return state.hasPrefix(" S") || state.hasPrefix(" D")
        }
    }

    /// What it has read, or `nil` when it hangs.
    func word() -> UInt64? { thread.output() }
}

/// A page of a source's guest that the kernel withholds: the thread that is to send it sleeps in a
/// fault, behind its claim and before its write.
final class WithheldPage: Sendable {
    private let ram: GuestRAM
    private let offset: RAMOffset
    private let content: [UInt8]
    private let uffd: Userfaultfd

    /// Every other page of the block stays.
    init(_ guest: PatternGuest, block: Int, page: Int) throws {
        ram = guest.memory[block]
        offset = RAMOffset(rawValue: UInt64(page) << 12)
        content = guest.pageBytes(block: block, page: page)
        for page in 0..<ram.usedPages {
            let start = UInt64(page) << 12
            ram.storeWord(ram.loadWord(at: start), at: start)
        }
        uffd = try Userfaultfd.open(.userOnly)
        try uffd.register(ram)
        try withhold()
    }

    /// Takes the page away again, while nobody needs it.
    func withhold() throws {
        try ram.drop(from: offset, lengthBytes: PageSize.target.bytes)
    }

    /// Waits until a thread sleeps at the page.
    func holds() throws -> Bool {
        var poller = Poller(capacity: 1)
        poller.watch(uffd)
        guard poller.wait(timeoutNanoseconds: patienceNanoseconds) > 0 else { return false }
        var places: [RAMOffset?] = []
        _ = try uffd.readEvents { places.append(ram.offset(of: $0.address)) }
        let page = PageSize.target.bytes
        return places.allSatisfy { $0.map { $0.rawValue / page * page } == offset.rawValue }
            && !places.isEmpty
    }

    func give() throws {
        let staging = StagingArea(capacityBytes: content.count)
        let bytes = content
        staging.write(bytes.span, 0..<bytes.count, at: 0)
        _ = try uffd.place(staging, lengthBytes: content.count, at: offset, of: ram)
    }
}

/// One connection of a source that the test plays.
final class HeldLink {
    let box: SocketBox
    private var reader = RawReader()

    init(_ box: SocketBox) { self.box = box }

    func send(_ bytes: [UInt8]) { box.send(bytes) }

    func cut() { box.socket.shutDown() }

    /// The next message that is no bitmap. The PING behind the package is answered whenever the
    /// stream's thread comes to it, and passed over.
    func message() throws -> Message {
        while true {
            let head = reader.read(4, from: box.socket)
            try #require(head.count == 4, "the destination ended or is silent")
            let payload = reader.read(Int(head[2]) << 8 | Int(head[3]), from: box.socket)
            if head + payload != Answers.pong(4), head != Self.heartbeat {
                return try #require(Message.all(of: head + payload).first)
            }
        }
    }

    /// A page that the destination asks for.
    struct Asked: Equatable {
        /// `nil` in the form that names no block.
        let block: String?
        let page: Int
    }

    func request() throws -> Asked {
        let message = try message()
        try #require(message.type == 3 || message.type == 4, "\(message)")
        let start = message.payload.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let name = message.type == 3 ? String(decoding: message.payload[13...], as: UTF8.self) : nil
        return Asked(block: name, page: Int(start >> 12))
    }

    /// The pages of each block that a destination has received, in the order in which it was asked.
    func bitmaps() throws -> [Set<Int>] {
        try SourceScript.blocks.map { block in
            let name = Array(block.name.utf8)
            let head = reader.read(5 + name.count, from: box.socket)
            try #require(head == [0, 5, 0, UInt8(1 + name.count), UInt8(name.count)] + name)
            // The length, one word of bits, the end mark.
            let body = reader.read(24, from: box.socket)
            try #require(body.prefix(8) == [0, 0, 0, 0, 0, 0, 0, 8])
            let word = ReceivedBitmap.word(in: body.span, at: 8)
            return Set((0..<64).filter { word & (1 << UInt64($0)) != 0 })
        }
    }

    /// Whether nothing comes, as far as can be said.
    func isSilent() -> Bool {
        let end = Monotonic.now() + 30_000_000
        while true {
            let now = Monotonic.now()
            guard now < end else { return true }
            var poller = Poller(capacity: 1)
            poller.watch(box.socket)
            guard poller.wait(timeoutNanoseconds: end - now) > 0 else { return true }
            // That it lives is no request.
            guard reader.read(4, from: box.socket) == Self.heartbeat else { return false }
        }
    }

    private static let heartbeat: [UInt8] = [0x50, 0x46, 0, 0]
}

/// A destination of which a test holds threads, and a source that the test plays.
struct HeldDestination {
    let guest: PatternGuest
    let session: DestinationSession
    var source: RecoveringSource
    private(set) var pages: [[Int]] = Self.missing

    /// What is missing behind the package, by block.
    static let missing = [[2, 3, 12, 13, 14, 15], Array(4..<16)]
    /// What the bitmaps say then.
    static let received: [Set<Int>] = [Set(0..<16).subtracting(missing[0]), Set(0..<4)]

    init(
        held: (@Sendable (HeldPoint) -> Void)? = nil,
        whileLoading: @escaping @Sendable () -> Void = {}
    ) throws {
        let memory = try guestMemory(SourceScript.blocks)
        guest = try PatternGuest(memory: memory, vcpuCount: 0, whileStopped: whileLoading)
        guest.expect(only: SourceScript.pagesWithContent)
        // Long enough for no heartbeat to come between what a test waits for.
        let destination = try DestinationUnderTest(
            guest, options: recoveringOptions(limitMilliseconds: 120_000), held: held)
        session = try #require(destination.current)
        source = try RecoveringSource(to: destination)
    }

    mutating func open(upTo word: [UInt8]? = nil) throws -> HeldLink {
        HeldLink(try source.open(upTo: word))
    }

    func touch(_ block: Int, _ page: Int) throws -> Toucher {
        try Toucher(guest, block: block, page: page)
    }

    /// Waits until so many faults were noted.
    func notes(faults: UInt64) -> Bool { atLast { session.progress.faults >= faults } }

    func pauses() -> Bool { atLast { session.progress.status == .postcopyPaused } }

    /// Records of pages that will not be sent again by `finish`.
    mutating func records(_ block: Int, _ pages: [Int]) throws -> [UInt8] {
        self.pages[block].removeAll { pages.contains($0) }
        return try records { script, bytes in
            for page in pages {
                script.append(block, page, content: script.content(block, page), to: &bytes)
            }
        }
    }

    private func records(_ body: (inout SourceScript, inout [UInt8]) -> Void) throws -> [UInt8] {
        // One that has not named a block yet.
        var script = SourceScript(guest: try sparseGuest())
        var bytes: [UInt8] = []
        body(&script, &bytes)
        return bytes
    }

    func section(_ records: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: SourceScript.section, last: false, to: &bytes)
        bytes += records
        StreamEncoder.appendSectionEnd(id: SourceScript.section, to: &bytes)
        return bytes
    }

    var askBitmaps: [UInt8] {
        SourceScript.commands(
            guest.memory.indices.map { .receivedBitmap(block: BlockIndex(rawValue: $0)) },
            guest.memory.map(\.geometry))
    }

    /// A new connection that has said who it is.
    func knock(_ attempt: UInt32) throws -> HeldLink {
        let link = HeldLink(try source.connect())
        link.send(source.hello(attempt))
        return link
    }

    /// One that has also asked for the bitmaps, and waits for no answer.
    func comeBack(_ attempt: UInt32) throws -> HeldLink {
        let link = try knock(attempt)
        link.send(askBitmaps)
        return link
    }

    static let resume = SourceScript.commands([.postcopyResume], [])

    /// RESUME and its answer.
    func resume(_ link: HeldLink) throws {
        link.send(Self.resume)
        try #expect(link.message() == Message(type: 6, payload: [0, 0, 0, 1]))
    }

    /// Sends what is owed and expects all to be well.
    /// - Parameters:
    ///   - waits: of threads for pages, all of which have ended.
    ///   - breaks: that were resumed from.
    @discardableResult
    mutating func finish(
        on link: HeldLink, waits: UInt64, breaks: Int, line: SourceLocation = #_sourceLocation
    ) throws -> DestinationReport {
        for (block, pages) in pages.enumerated() {
            link.send(section(try records(block, pages)))
        }
        link.send(SourceScript(guest: try sparseGuest()).end)
        // Nothing is asked for any more.
        let last = try link.message()
        #expect(last == Message(type: 1, payload: [0, 0, 0, 0]), sourceLocation: line)
        link.send(SourceScript.commands([.heartbeat], []))
        link.box.socket.shutDownSending()
        let report = try #require(source.destination.report(), "hangs", sourceLocation: line)
        #expect(report.status == .completed, "\(report.problem ?? "")", sourceLocation: line)
        #expect(report.problem == nil, sourceLocation: line)
        #expect(guest.wrongWords() == 0, sourceLocation: line)
        #expect(report.blocktime?.latency.count == waits, sourceLocation: line)
        #expect(report.breaks.count == breaks, sourceLocation: line)
        #expect(
            report.breaks.allSatisfy { $0.resumedAtNanoseconds != nil }, sourceLocation: line)
        return report
    }

    /// The first word of a page.
    func word(_ block: Int, _ page: Int) throws -> UInt64 {
        try sparseGuest().memory[block].loadWord(at: UInt64(page) << 12)
    }
}
