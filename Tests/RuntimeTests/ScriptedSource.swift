import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport

/// A whole and valid migration of a tiny guest, as bytes of both channels, with named places in it.
struct SourceScript {
    var head: [UInt8] = []
    /// From the commands behind the head up to the block list's end.
    var setup: [UInt8] = []
    var precopy: [UInt8] = []
    var discards: [UInt8] = []
    var package: [UInt8] = []
    var postcopy: [UInt8] = []
    var end: [UInt8] = []
    var urgent: [UInt8] = []

    static let section: UInt32 = 1
    static let blocks: [(name: String, pages: Int, backing: RAMBacking)] = [
        (name: "low", pages: 16, backing: .anonymous), (name: "high", pages: 16, backing: .memfd),
    ]

    var main: [UInt8] { head + setup + precopy + discards + package + postcopy + end }
    var beforePackage: [UInt8] { head + setup + precopy + discards }
    /// Behind this many bytes the destination has the guest.
    var packageEnd: Int { beforePackage.count + package.count }

    private let guest: PatternGuest
    private var encoder: RAMRecordEncoder

    init(guest: PatternGuest) {
        self.guest = guest
        let geometries = guest.memory.map(\.geometry)
        encoder = RAMRecordEncoder(blocks: geometries)
        StreamEncoder.appendHead(machineType: guest.machineType, to: &head)
        setup = Self.commands(
            [
                .openReturnPath, .ping(1),
                .postcopyAdvise(
                    pageSizeSummary: geometries.reduce(0) { $0 | $1.hostPage.bytes },
                    targetPageBytes: 4096),
            ], geometries)
        StreamEncoder.appendSectionStart(id: Self.section, to: &setup)
        StreamEncoder.appendBlockList(geometries.listed, to: &setup)
        StreamEncoder.appendSectionEnd(id: Self.section, to: &setup)
        fillPrecopy()
        discards = Self.commands(
            [
                .discard(Self.discard(0, [2..<4, 12..<16])),
                .discard(Self.discard(1, [4..<16])),
            ], geometries)
        package =
            Self.commands([.ping(2)], geometries) + Self.package([1, 2, 3])
            + Self.commands([.ping(4)], geometries)
        fillPostcopy()
        StreamEncoder.appendSectionResumed(id: Self.section, last: true, to: &end)
        StreamEncoder.appendSectionEnd(id: Self.section, to: &end)
        StreamEncoder.appendEndOfStream(to: &end)
    }

    static func package(_ devices: [UInt8]) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendPackage(DevicePackage.encode(devices: devices), to: &bytes)
        return bytes
    }

    static func commands(_ commands: [Command], _ blocks: [BlockGeometry]) -> [UInt8] {
        var bytes: [UInt8] = []
        for command in commands {
            StreamEncoder.appendCommand(command, blocks: blocks, to: &bytes)
        }
        return bytes
    }

    static func discard(_ block: Int, _ pages: [Range<Int>]) -> DiscardRanges {
        DiscardRanges(
            block: BlockIndex(rawValue: block),
            ranges: pages.map { pages in
                DiscardRange(
                    start: RAMOffset(rawValue: UInt64(pages.lowerBound) << 12),
                    lengthBytes: UInt64(pages.count) << 12)
            })
    }

    /// Stale content, then again the pages that the destination keeps; 2 and 3 are discarded.
    private mutating func fillPrecopy() {
        let stale = Array(repeating: UInt8(0xee), count: 4096)
        precopy = section(last: false) { script, bytes in
            script.append(0, 0, content: stale, to: &bytes)
            script.append(0, 2, content: stale, to: &bytes)
            for page in 0..<12 where page != 2 && page != 3 {
                script.append(0, page, content: script.content(0, page), to: &bytes)
            }
        }
        precopy += section(last: false) { script, bytes in
            for page in 0..<5 {
                script.append(1, page, content: script.content(1, page), to: &bytes)
            }
        }
    }

    private mutating func fillPostcopy() {
        let pages = [(0, 2), (0, 3), (0, 12), (0, 13), (0, 14), (0, 15)]
        postcopy = section(last: false) { script, bytes in
            for (block, page) in pages + (4..<12).map({ (1, $0) }) {
                script.append(block, page, content: script.content(block, page), to: &bytes)
            }
        }
        encoder.forgetBlock()
        var channel: [UInt8] = []
        for page in 12..<16 { append(1, page, content: content(1, page), to: &channel) }
        RAMRecordEncoder.appendEndOfSection(to: &channel)
        urgent = channel
        encoder.forgetBlock()
    }

    /// A section around records.
    mutating func section(
        last: Bool, _ body: (inout SourceScript, inout [UInt8]) -> Void
    ) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: Self.section, last: last, to: &bytes)
        body(&self, &bytes)
        StreamEncoder.appendSectionEnd(id: Self.section, to: &bytes)
        return bytes
    }

    /// What the guest has there; `nil` for zeros.
    func content(_ block: Int, _ page: Int) -> [UInt8]? {
        let bytes = guest.pageBytes(block: block, page: page)
        return bytes.allSatisfy { $0 == 0 } ? nil : bytes
    }

    mutating func append(
        _ block: Int, _ page: Int, content: [UInt8]?, to bytes: inout [UInt8]
    ) {
        let block = BlockIndex(rawValue: block)
        let offset = RAMOffset(rawValue: UInt64(page) << 12)
        if let content {
            encoder.appendPageHeader(block: block, offset: offset, to: &bytes)
            bytes += content
        } else {
            encoder.appendZeroPage(block: block, offset: offset, to: &bytes)
        }
    }
}

extension [BlockGeometry] {
    /// As a guest has them that uses them whole.
    var listed: [ListedBlock] { map { ListedBlock($0) } }
}

/// A guest of which few pages have content, so that its stream has few bytes.
func sparseGuest() throws -> PatternGuest {
    let guest = try PatternGuest(blocks: SourceScript.blocks)
    guest.fill(only: SourceScript.pagesWithContent)
    return guest
}

extension SourceScript {
    /// One of each way to travel: sent again, discarded, in postcopy, urgent; in both blocks.
    static let pagesWithContent: Set<[Int]> = [
        [0, 0], [0, 2], [0, 13], [1, 3], [1, 6], [1, 13],
    ]
}

/// A destination that is being migrated to on a thread of its own.
final class DestinationUnderTest: Sendable {
    let guest: PatternGuest
    let address: ChannelAddress
    private let session: Mutex<DestinationSession?>
    private let run: Bounded<DestinationReport>
    private let readers: [JoinableReader]

    init(
        _ guest: PatternGuest, options: MigrationOptions = testOptions(), vcpus: Bool = false,
        at address: String = "tcp:127.0.0.1:0", held: (@Sendable (HeldPoint) -> Void)? = nil
    ) throws {
        self.guest = guest
        readers = vcpus ? try guest.runVCPUs() : []
        let listener = try Listener(at: ChannelAddress(parsing: address))
        self.address = listener.address
        let place = Handover(listener)
        let session = try DestinationSession(guest: guest, options: options, held: held)
        self.session = Mutex(session)
        run = try Bounded("destination") {
            session.run(on: place.take())
        }
    }

    func cancel() { session.withLock { $0 }?.cancel() }
    func pause() -> Bool { session.withLock { $0 }?.pause() ?? false }
    func recover() -> Bool { session.withLock { $0 }?.recover() ?? false }
    var progress: DestinationProgress { session.withLock { $0 }?.progress ?? DestinationProgress() }

    /// `nil` once it was asked for its report.
    var current: DestinationSession? { session.withLock { $0 } }

    /// How it ended, or `nil` when it hangs. Afterwards the guest's threads are free.
    func report(withinSeconds seconds: UInt64 = 20) -> DestinationReport? {
        let report = run.output(withinSeconds: seconds)
        if report?.status != .completed { guest.stop() }
        let session = session.withLock { $0.take() }
        session?.abandonGuest()
        guard report != nil else { return nil }
        for reader in readers where !reader.join(withinSeconds: 5) { return nil }
        return report
    }
}
