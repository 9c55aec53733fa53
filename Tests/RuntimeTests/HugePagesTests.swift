import LinuxKernel
import MigrationCore
import PageModel
import StreamWire
import TestSupport
import Testing

@testable import PostcopyRuntime

extension RuntimeLaws {
    /// Huge pages are off from the first page to the last, and come back then.
    @Suite(
        "A destination and huge pages",
        .enabled(if: hostGivesHugePages, "needs Linux 6.7 and transparent huge pages not 'never'"))
    struct HugePagesTests {
        struct Way: CustomTestStringConvertible, Sendable {
            let backing: RAMBacking
            /// Host pages.
            let pages: Int
            let discarded: [Range<Int>]
            var heals = false
            var testDescription: String { "\(backing), heals \(heals)" }
        }

        /// A part of each huge page's range is discarded, first the page that is touched last.
        static let ways: [Way] = [RAMBacking.anonymous, .memfd].flatMap { backing in
            [false, true].map { heals in
                Way(backing: backing, pages: 1_027, discarded: [5..<6, 700..<703], heals: heals)
            }
        }

        static let huge = HostMemory.hugePageSize?.bytes ?? 0

        @Test(
            "what is discarded faults, its neighbours stay, and huge pages come back",
            arguments: ways)
        func discards(_ way: Way) throws {
            let migration = try ScriptedPostcopy(way)
            try migration.precopy()
            let ram = migration.guest.memory[0]
            #expect(ram.hugeBytes() == 0)
            #expect(!mappingFlags(at: ram.address.rawValue).contains("hg"))
            try migration.switchOver()
            try migration.readNeighbours()
            let report = try migration.finish()
            #expect(report.memory.hugeBytesAtEnd == (way.heals ? 2 * Self.huge : 0))
            #expect(report.memory.healedRanges == (way.heals ? 2 : 0))
            #expect((report.memory.healNanoseconds != nil) == way.heals)
            #expect(mappingFlags(at: ram.address.rawValue).contains("hg"))
        }

        @Test(
            "a huge page of hugetlb that is discarded faults, and its neighbours stay",
            .enabled(if: HugePagePool.canHold(8), "needs 8 free huge pages of 2 MiB"))
        func hugetlb() throws {
            let pool = HugePagePool(reserving: 8)
            defer { pool.release() }
            let migration = try ScriptedPostcopy(
                Way(backing: .hugetlb, pages: 4, discarded: [1..<2, 3..<4], heals: true))
            try migration.precopy()
            try migration.switchOver()
            try migration.readNeighbours()
            let report = try migration.finish()
            #expect(report.memory.hugeBytesAtEnd == 8 << 20)
            #expect(report.memory.healedRanges == 0)
        }

        @Test("a page that never came is missing, though nobody discarded it")
        func neverCame() throws {
            let way = Way(backing: .anonymous, pages: 512, discarded: [1..<512])
            let migration = try ScriptedPostcopy(way, sendsStale: false, sendsDiscards: false)
            try migration.precopy()
            try migration.switchOver()
            _ = try migration.finish()
        }

        @Test("who cancels ends the healing, and nothing else")
        func cancelled() throws {
            let migration = try ScriptedPostcopy(Self.ways[1])
            try migration.precopy()
            try migration.switchOver()
            migration.destination.cancel()
            let report = try migration.finish()
            #expect(report.memory.healedRanges == 0)
            #expect(report.memory.hugeBytesAtEnd == 0)
        }

        @Test("ranges are healed in the order in which they faulted first, then by place")
        func order() throws {
            let size = try #require(HostMemory.hugePageSize)
            let pages = Int(size.bytes / HostMemory.pageSize.bytes)
            let guest = try PatternGuest(blocks: [
                (name: "a", pages: 3 * pages + 1, backing: .anonymous),
                (name: "b", pages: 2 * pages, backing: .memfd),
            ])
            let faults = try #require(FirstFaults(of: guest.memory))
            let touched = [(1, pages), (0, 2 * pages + 7), (1, pages + 1), (0, 3 * pages), (0, 0)]
            for (block, page) in touched {
                faults.note(
                    HostPage(
                        block: BlockIndex(rawValue: block), page: HostPageIndex(rawValue: page)))
            }
            let order = faults.ranges().map {
                [$0.block.rawValue, Int($0.offset.rawValue / size.bytes)]
            }
            #expect(order == [[1, 1], [0, 2], [0, 0], [0, 1], [1, 0]])
        }
    }
}

/// A destination that is led through a precopy of all memory and a postcopy of a part, step by step.
private final class ScriptedPostcopy {
    let guest: PatternGuest
    let destination: DestinationUnderTest
    private let way: RuntimeLaws.HugePagesTests.Way
    private let source: PatternGuest
    private var script: SourceScript
    private let sendsStale: Bool
    private let main: SocketBox
    private var reader = RawReader()

    /// The value of a PING that the destination answers once it has the precopy.
    private static let precopyPing: UInt32 = 7

    init(
        _ way: RuntimeLaws.HugePagesTests.Way, sendsStale: Bool = true, sendsDiscards: Bool = true
    ) throws {
        let blocks = [
            (name: "low", pages: way.pages, backing: way.backing),
            (name: "high", pages: 16, backing: .memfd),
        ]
        self.way = way
        self.sendsStale = sendsStale
        source = try PatternGuest(blocks: blocks)
        source.fill()
        guest = try PatternGuest(blocks: blocks)
        script = SourceScript(guest: source)
        var options = testOptions(preempt: false)
        options.heals = way.heals
        destination = try DestinationUnderTest(guest, options: options)
        main = SocketBox(try StreamSocket.connect(to: destination.address))
        script.discards = sendsDiscards ? discards : []
    }

    private var geometries: [BlockGeometry] { source.memory.map(\.geometry) }
    private var low: BlockGeometry { geometries[0] }

    /// The discarded host pages in target pages.
    private var discarded: [Range<Int>] {
        let count = low.hostPage.targetPages
        return way.discarded.map { $0.lowerBound * count..<$0.upperBound * count }
    }

    private var discards: [UInt8] {
        SourceScript.commands([.discard(SourceScript.discard(0, discarded))], geometries)
    }

    private func isDiscarded(_ page: Int) -> Bool { discarded.contains { $0.contains(page) } }

    /// All memory, of which the part that is discarded later is stale or does not come.
    func precopy() throws {
        let stale = Array(repeating: UInt8(0xee), count: 4096)
        var bytes = script.head + script.setup
        bytes += script.section(last: false) { script, bytes in
            for page in 0..<low.targetPageCount where sendsStale || !isDiscarded(page) {
                let content = isDiscarded(page) ? stale : script.content(0, page)
                script.append(0, page, content: content, to: &bytes)
            }
            for page in 0..<16 {
                script.append(1, page, content: script.content(1, page), to: &bytes)
            }
        }
        main.send(bytes + SourceScript.commands([.ping(Self.precopyPing)], geometries))
        let pong: [UInt8] = [0, 2, 0, 4, 0, 0, 0, UInt8(Self.precopyPing)]
        try #require(reader.read(upTo: pong, from: main.socket).contains(pong))
    }

    func switchOver() throws {
        main.send(script.discards + script.package)
        let commit: [UInt8] = [0, 2, 0, 4, 0, 0, 0, 0x42]
        try #require(reader.readCommit(from: main.socket).contains(commit))
    }

    /// Reads the pages around those that are discarded: they must not be missing.
    func readNeighbours() throws {
        let neighbours = discarded.flatMap { [$0.lowerBound - 1, $0.upperBound] }
            .filter { $0 < low.targetPageCount }
        let (ram, expected) = (
            guest.memory[0], neighbours.map { source.memory[0].loadWord(at: UInt64($0) << 12) }
        )
        let words = try Bounded("neighbours") {
            neighbours.map { ram.loadWord(at: UInt64($0) << 12) }
        }
        #expect(words.output(withinSeconds: 5) == expected)
    }

    /// Touches the first discarded host pages, sends all once those were asked for, and compares all
    /// memory.
    func finish() throws -> DestinationReport {
        let ram = guest.memory[0]
        // Each takes a thread.
        let missing = way.discarded.flatMap(Array.init).prefix(4)
        let readers = try missing.map { page in
            let start = ram.geometry.offset(of: HostPageIndex(rawValue: page)).rawValue
            return try Bounded("missing") { ram.loadWord(at: start) }
        }
        var heard: [UInt8] = []
        while requests(in: heard) < missing.count {
            let more = reader.readSome(from: main.socket)
            if more.isEmpty { break }
            heard += more
        }
        #expect(requests(in: heard) == missing.count)
        let pages = script.section(last: false) { script, bytes in
            for page in discarded.joined() {
                script.append(0, page, content: script.content(0, page), to: &bytes)
            }
        }
        main.send(pages + script.end)
        _ = reader.readSuccess(from: main.socket)
        main.socket.shutDown()
        let report = try #require(destination.report())
        #expect(report.status == .completed, "\(report.problem ?? "")")
        #expect(report.progress.requests == UInt64(missing.count))
        for (page, reader) in zip(missing, readers) {
            let start = low.offset(of: HostPageIndex(rawValue: page)).rawValue
            #expect(reader.output() == source.memory[0].loadWord(at: start))
        }
        #expect(guest.wrongWords() == 0)
        return report
    }

    /// The messages 3 and 4 (`MIG_RP_MSG_REQ_PAGES_ID`, `MIG_RP_MSG_REQ_PAGES`) among `bytes`.
    private func requests(in bytes: [UInt8]) -> Int {
        var (count, at) = (0, 0)
        while at + 4 <= bytes.count {
            let length = Int(bytes[at + 2]) << 8 | Int(bytes[at + 3])
            if bytes[at + 1] == 3 || bytes[at + 1] == 4 { count += 1 }
            at += 4 + length
        }
        return count
    }
}
