import PageModel
import StreamWire
import TestSupport
import Testing

@testable import PostcopyCommand

/// Streams that are well formed and that no destination takes.
@Suite("an inspection of streams out of order")
struct InspectionOrderTests {
    /// The problems of a postcopy with something after its package.
    private func problems(
        after change: (inout SmallMigration) -> Void
    ) throws -> [InspectedProblem] {
        var stream = SmallMigration()
        stream.begin()
        stream.package()
        change(&stream)
        stream.endOfStream()
        let main = try inspection(stream.bytes).main
        expectTiled(main)
        return main.problems
    }

    private func expectOne(
        _ text: String, _ change: (inout SmallMigration) -> Void
    ) throws {
        let found = try problems(after: change)
        #expect(found.count == 1, "\(found)")
        #expect(found.first?.text.contains(text) == true, "\(found)")
        #expect(found.first?.endsReading == false)
    }

    @Test("a command that comes too late or twice is named with its phase")
    func commands() throws {
        #expect(try problems { _ in } == [])
        try expectOne("DISCARD came in phase 'running'") { $0.discard(SmallMigration.ram, 0, 4096) }
        try expectOne("ADVISE came in phase 'running'") {
            $0.add(.postcopyAdvise(pageSizeSummary: 4096, targetPageBytes: 4096))
        }
        try expectOne("LISTEN came in phase 'running'") { $0.package() }
        try expectOne("outside the package") { $0.add(.postcopyListen) }
        try expectOne("outside the package") { $0.add(.postcopyRun) }
    }

    @Test("a ping that nobody can answer")
    func ping() throws {
        var stream = SmallMigration()
        stream.begin(advises: false)
        var head: [UInt8] = []
        StreamEncoder.appendHead(machineType: "small-1", to: &head)
        let place = UInt64(head.count)
        // OPEN_RETURN_PATH, five bytes, stands behind the head.
        stream.bytes.removeSubrange(head.count..<head.count + 5)
        let document = try inspection(stream.bytes)
        #expect(document.main.problems.first?.offset == place)
        #expect(document.main.problems.first?.text.contains("PING before OPEN_RETURN_PATH") == true)
    }

    @Test("a page that comes again in a postcopy, though nobody discarded it")
    func twice() throws {
        try expectOne("page 0x1000 of block 'ram0' came again") {
            $0.part(SmallMigration.ram, [0x1000, 0x2000, 0x1000])
        }
        var stream = SmallMigration()
        stream.begin()
        stream.part(SmallMigration.ram, [0x1000, 0x1000])
        #expect(try inspection(stream.bytes).main.problems.count == 1, "the cut alone")
    }

    @Test("target pages of one host page with others in between")
    func interleaved() throws {
        let found = try problems {
            $0.part(SmallMigration.huge, [0, 0x1000])
            $0.part(SmallMigration.ram, [0x3000])
            $0.part(SmallMigration.huge, SmallMigration.hugePages[2...])
        }
        let texts = found.map(\.text)
        #expect(
            texts.first == "page 0x3000 of block 'ram0' came inside the host page at 0x0 of block "
                + "'m0', which was not whole")
        #expect(texts.last == "the stream ends inside a page of a block")
        #expect(texts.count == 2)
    }

    @Test(
        "records of other ways to send pages are named, and the reading stops there",
        arguments: [
            (UInt8(0), UInt8(0x60), "an XBZRLE page"), (1, 0x20, "a compressed page"),
            (2, 0x00, "a barrier of multifd channels"), (0, 0x80, "a word for RDMA"),
        ])
    func otherRecords(high: UInt8, low: UInt8, text: String) throws {
        var stream = SmallMigration()
        stream.begin()
        StreamEncoder.appendSectionResumed(id: 7, last: false, to: &stream.bytes)
        let place = UInt64(stream.bytes.count)
        stream.bytes += [0, 0, 0, 0, 0, 0, high, low, 1, 2, 3]
        let problem = try #require(try inspection(stream.bytes).main.problems.last)
        #expect(problem.offset == place && problem.endsReading)
        #expect(problem.text.contains(text), "\(problem)")
    }

    @Test("problems without end are counted, and the items go on")
    func many() throws {
        var stream = SmallMigration()
        stream.begin()
        stream.package()
        for _ in 0..<4 { stream.part(SmallMigration.ram, SmallMigration.ramPages) }
        stream.endOfStream()
        let main = try inspection(stream.bytes).main
        expectTiled(main)
        #expect(main.problems.count == InspectionDocument.problemsMax)
        #expect(main.problemsOmitted == UInt64(3 * 16 - InspectionDocument.problemsMax))
        #expect(main.items.last?.kind == .endOfStream)
    }

    @Test("a list that comes again with other lengths is followed")
    func resized() throws {
        var stream = SmallMigration()
        stream.begin()
        StreamEncoder.appendSectionResumed(id: 7, last: false, to: &stream.bytes)
        let geometries = try [("ram0", UInt64(0x20000)), ("m0", 0x20_0000)].map { name, length in
            try BlockGeometry(
                name: name, lengthBytes: length, hostPage: name == "m0" ? .size2MiB : .target)
        }
        StreamEncoder.appendBlockList(geometries.map { ListedBlock($0) }, to: &stream.bytes)
        StreamEncoder.appendSectionEnd(id: 7, to: &stream.bytes)
        let document = try inspection(stream.bytes)
        #expect(document.memory?.first?.bytes == 0x20000)
        #expect(document.memory?.first?.absent == 32)
        let lists = document.main.items.filter { $0.kind == .blockList }
        #expect(lists.map(\.section) == [7, nil])
        #expect(lists.map { $0.blocks?.first?.bytes } == [0x10000, 0x20000])
    }

    @Test("a list of more memory than is tracked costs none")
    func vast() throws {
        var bytes: [UInt8] = []
        StreamEncoder.appendHead(machineType: "m", to: &bytes)
        StreamEncoder.appendSectionStart(id: 1, to: &bytes)
        let vast = try BlockGeometry(
            name: "vast", lengthBytes: BlockGeometry.lengthBytesMax, hostPage: .target)
        StreamEncoder.appendBlockList([ListedBlock(vast)], to: &bytes)
        StreamEncoder.appendSectionEnd(id: 1, to: &bytes)
        let document = try inspection(bytes)
        #expect(document.memory?.first?.bytes == BlockGeometry.lengthBytesMax)
        #expect(document.memory?.first?.absent == 0)
    }
}
