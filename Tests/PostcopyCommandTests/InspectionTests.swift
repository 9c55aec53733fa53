import Foundation
import PageModel
import StreamWire
import TestSupport
import Testing

@testable import PostcopyCommand

/// The bytes of a link.
struct LinkBytes {
    let main: [UInt8]
    var returnPath: [UInt8]?
    var preempt: [UInt8]?
}

/// Reads channels as the command does, and prints nothing.
func inspection(
    _ main: [UInt8], returnPath: [UInt8]? = nil, preempt: [UInt8]? = nil,
    resumed: [LinkBytes] = [], detail: InspectionDetail = .summary
) throws -> InspectionDocument {
    let folder = FileManager.default.temporaryDirectory
        .appendingPathComponent("postcopy-inspection-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: folder) }
    func file(_ name: String, _ bytes: [UInt8]) throws -> ChannelFile {
        let place = folder.appendingPathComponent(name)
        try Data(bytes).write(to: place)
        return try ChannelFile(path: place.path)
    }
    let first = LinkBytes(main: main, returnPath: returnPath, preempt: preempt)
    let links = try ([first] + resumed).enumerated().map { number, link in
        LinkFiles(
            main: try file("main\(number)", link.main),
            returnPath: try link.returnPath.map { try file("return\(number)", $0) },
            preempt: try link.preempt.map { try file("preempt\(number)", $0) })
    }
    return try InspectionReport.document(of: links, detail: detail, stream: nil)
}

/// Items of a channel stand side by side, up to what was understood.
func expectTiled(_ channel: InspectedChannel) {
    var end: UInt64 = 0
    for item in channel.items {
        #expect(item.offset == end, "\(item)")
        end = item.offset + item.bytes
    }
    #expect(end == channel.bytes)
}

@Suite("an inspection of channels")
struct InspectionTests {
    private func kinds(_ document: InspectionDocument) -> [InspectedItem.Kind] {
        document.main.items.map(\.kind)
    }

    @Test("a whole migration is good, and every byte belongs to an item")
    func whole() throws {
        for detail in [InspectionDetail.summary, .sections, .runs] {
            let document = try inspection(
                SmallMigration.postcopy, returnPath: SmallMigration.returnPath,
                preempt: SmallMigration.preempt, detail: detail)
            #expect(document.status == "good")
            #expect(document.ending == "complete by postcopy")
            for channel in [document.main, document.returnPath, document.preempt] {
                let channel = try #require(channel)
                #expect(channel.problems == [])
                expectTiled(channel)
            }
            #expect(document.main.bytes == UInt64(SmallMigration.postcopy.count))
        }
    }

    @Test("one line tells of sections and commands of one kind in a row, or each has one")
    func detail() throws {
        let stream = SmallMigration.postcopy
        let summary = try inspection(stream)
        #expect(
            kinds(summary) == [
                .head, .openReturnPath, .ping, .advise, .blockList, .pages, .discards, .ping,
                .package, .ping, .pages, .pages, .endOfStream,
            ])
        let pages = summary.main.items.filter { $0.kind == .pages }
        #expect(pages.map(\.count) == [3, 1, 1])
        #expect(pages.map(\.isLast) == [nil, nil, true])
        #expect(pages[0].blocks?.map(\.zero) == [15])
        #expect(pages[0].blocks?.map(\.normal) == [1])
        #expect(pages[0].blocks?.map(\.runs) == [1])
        let discards = try #require(summary.main.items.first { $0.kind == .discards })
        #expect(discards.count == 3)
        #expect(discards.blocks?.map(\.ranges) == [2, 1])
        #expect(discards.blocks?.map(\.bytes) == [0x3000, 0x20_0000])
        #expect(discards.blocks?.map(\.to) == [0xb000, 0x20_0000])

        let sections = try inspection(stream, detail: .sections)
        #expect(sections.main.items.filter { $0.kind == .pages }.count == 5)
        #expect(sections.main.items.filter { $0.kind == .discards }.count == 3)
        let runs = try inspection(stream, detail: .runs)
        let last = runs.main.items.filter { $0.kind == .pages }.suffix(3)
        #expect(last.map { $0.blocks?.first?.from } == [0x4000, 0xa000, 0])
    }

    @Test("the package and the tail are outlined")
    func devices() throws {
        let package = try #require(
            try inspection(SmallMigration.postcopy).main.items.first { $0.kind == .package })
        #expect(package.devices?.map(\.name) == ["cpu", "clock"])
        #expect(package.devices?.map(\.section) == [9, 10])
        #expect(package.devices?.first?.offset == package.offset + 9 + 5)
        #expect(package.pings == [3, 0x42])
        #expect(package.unresolvedOffset == nil)

        let stream = SmallMigration.precopy + SmallMigration.description
        let document = try inspection(stream)
        #expect(document.status == "good")
        #expect(document.ending == "complete by precopy")
        #expect(kinds(document).suffix(3) == [.devices, .endOfStream, .description])
        #expect(document.main.items.suffix(3).first?.devices?.map(\.version) == [5, 2])
        #expect(document.main.items.last?.value == 2)
        expectTiled(document.main)
    }

    @Test("a stream that is cut anywhere is wrong there, and all before it is told")
    func cuts() throws {
        let whole = SmallMigration.precopy + SmallMigration.description
        for stream in [SmallMigration.postcopy, whole] {
            // In the middle stand pages only, each like the others.
            let middle = 500..<stream.count - 300
            for length in 1..<stream.count where length % (middle.contains(length) ? 61 : 3) == 0 {
                let document = try inspection(Array(stream.prefix(length)))
                guard stream != whole || length != SmallMigration.precopy.count else {
                    #expect(document.status == "good", "without a description")
                    continue
                }
                let problem = try #require(document.main.problems.last, "\(length)")
                #expect(document.status == "wrong")
                #expect(problem.offset == UInt64(length), "\(problem)")
                #expect(problem.endsReading)
                #expect(problem.text.hasPrefix("the file ends in the middle of "), "\(problem)")
                expectTiled(document.main)
            }
        }
    }

    @Test("damaged streams are told as far as they go", arguments: 0..<20 as Range<UInt64>)
    func damage(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        for _ in 0..<10 {
            var stream = SmallMigration.postcopy
            for _ in 0..<1 + random.below(3) {
                let index = random.below(stream.count)
                stream[index] = UInt8(truncatingIfNeeded: random.next())
            }
            let document = try inspection(
                stream, returnPath: SmallMigration.returnPath, preempt: SmallMigration.preempt,
                detail: InspectionDetail(rawValue: random.below(3)) ?? .summary)
            let channels = [document.main, document.returnPath, document.preempt]
                .compactMap(\.self)
            #expect((document.status == "good") == channels.allSatisfy { $0.problems.isEmpty })
            for channel in channels { expectTiled(channel) }
            #expect(try InspectionDocument(decoding: document.encoded()) == document)
        }
    }

    @Test("pages that were discarded are lost when no channel brings them")
    func lost() throws {
        let alone = try inspection(SmallMigration.postcopy)
        #expect(alone.status == "good")
        #expect(alone.ending?.contains("1 discarded page: on the preempt channel") == true)
        #expect(alone.memory?.map(\.owed) == [1, 0])

        let end = Array(SmallMigration.preempt.suffix(8))
        let lost = try inspection(SmallMigration.postcopy, preempt: end)
        #expect(lost.status == "wrong")
        #expect(lost.main.problems.map(\.text) == ["1 discarded page came on no channel"])
    }

    @Test("the memory is counted over all channels")
    func memory() throws {
        let document = try inspection(
            SmallMigration.postcopy, preempt: SmallMigration.preempt)
        let ram = InspectedMemory(
            name: "ram0", bytes: 0x10000, pageSize: 4096, normal: 1, zero: 18, discarded: 3,
            owed: 0,
            absent: 0)
        let huge = InspectedMemory(
            name: "m0", bytes: 0x20_0000, pageSize: 0x20_0000, normal: 0, zero: 512,
            discarded: 512, owed: 0, absent: 0)
        #expect(document.memory == [ram, huge])
    }
}
