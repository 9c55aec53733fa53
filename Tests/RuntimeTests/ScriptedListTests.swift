import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

/// Block lists that come again, and discards, to a destination whose block "high" is resizable.
struct ListScript {
    var script: SourceScript

    init() throws { script = SourceScript(guest: try sparseGuest()) }

    private static let geometries = RuntimeLaws.ScriptedSourceTests.geometries

    /// The list when "high" has so many pages.
    static func list(_ highPages: Int) -> [ListedBlock] {
        [
            ListedBlock(geometries[0]),
            ListedBlock(
                geometries[1], usedBytes: UInt64(highPages) << 12, isResizable: true),
        ]
    }

    /// All up to the first list's end.
    func start(_ highPages: Int) -> [UInt8] {
        var bytes =
            script.head
            + SourceScript.commands(
                [
                    .openReturnPath, .ping(1),
                    .postcopyAdvise(pageSizeSummary: 4096, targetPageBytes: 4096),
                ], Self.geometries)
        StreamEncoder.appendSectionStart(id: SourceScript.section, to: &bytes)
        StreamEncoder.appendBlockList(Self.list(highPages), to: &bytes)
        StreamEncoder.appendSectionEnd(id: SourceScript.section, to: &bytes)
        return bytes
    }

    /// A part of the section with a list of its own.
    static func relist(_ list: [ListedBlock]) -> [UInt8] {
        var bytes: [UInt8] = []
        StreamEncoder.appendSectionResumed(id: SourceScript.section, last: false, to: &bytes)
        StreamEncoder.appendBlockList(list, to: &bytes)
        StreamEncoder.appendSectionEnd(id: SourceScript.section, to: &bytes)
        return bytes
    }

    static func relist(_ highPages: Int) -> [UInt8] { relist(list(highPages)) }

    /// A part with pages of the guest.
    mutating func pages(_ block: Int, _ pages: Range<Int>) -> [UInt8] {
        script.section(last: false) { script, bytes in
            for page in pages {
                script.append(block, page, content: script.content(block, page), to: &bytes)
            }
        }
    }

    static func discards(_ commands: (Int, [Range<Int>])...) -> [UInt8] {
        SourceScript.commands(
            commands.map { .discard(SourceScript.discard($0.0, $0.1)) }, geometries)
    }
}

extension RuntimeLaws {
    @Suite("A destination and lists that come again")
    struct ScriptedListTests {
        /// - Parameter highPages: of 16 at most.
        private static func destination(
            _ highPages: Int, _ options: MigrationOptions = testOptions(silenceMilliseconds: 300)
        ) throws -> DestinationUnderTest {
            let geometries = RuntimeLaws.ScriptedSourceTests.geometries
            let guest = try PatternGuest(
                memory: [
                    try GuestRAM(geometries[0], backing: .anonymous),
                    try GuestRAM(
                        geometries[1], backing: .memfd, usedBytes: UInt64(highPages) << 12),
                ], vcpuCount: 1)
            guest.expect(only: SourceScript.pagesWithContent)
            return try DestinationUnderTest(guest, options: options, vcpus: true)
        }

        /// Sends `early`, and `late` once the guest runs there.
        private static func play(
            _ early: [UInt8], _ late: [UInt8], to destination: DestinationUnderTest
        ) throws -> DestinationReport {
            let main = SocketBox(try StreamSocket.connect(to: destination.address))
            main.send(early)
            var reader = RawReader()
            if late.isEmpty {
                _ = reader.readShut(from: main.socket)
            } else {
                _ = reader.readCommit(from: main.socket)
                main.send(late)
                _ = reader.readSuccess(from: main.socket)
            }
            main.socket.shutDown()
            return try #require(destination.report(withinSeconds: 5))
        }

        @Test("a list that shrinks below pages received takes them back; one that grows owes them")
        func followsLists() throws {
            var script = try ListScript()
            var bytes = script.start(4) + script.pages(0, 0..<16) + script.pages(1, 0..<4)
            bytes += ListScript.relist(8) + script.pages(1, 4..<8)
            bytes += ListScript.relist(6)
            let whole = bytes + script.script.package
            let destination = try Self.destination(9)
            let report = try Self.play(whole, script.script.end, to: destination)
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.memory[1].usedPages == 6)
            #expect(destination.guest.wrongWords() == 0)
            #expect(report.progress.totalHostPages == 22)

            let regrown = bytes + ListScript.relist(12) + script.pages(1, 9..<10)
            let owing = regrown + script.script.package
            let rest = script.pages(1, 6..<9) + script.pages(1, 10..<12)
            let second = try Self.destination(9)
            let completed = try Self.play(owing, rest + script.script.end, to: second)
            #expect(completed.status == .completed, "\(completed.problem ?? "")")
            #expect(second.guest.memory[1].usedPages == 12)
            #expect(second.guest.wrongWords() == 0)
            #expect(second.guest.mismatches.load(ordering: .relaxed) == 0)

            let third = try Self.destination(9)
            let paused = try Self.play(owing, script.script.end, to: third)
            #expect(paused.status == .postcopyPaused)
            #expect(paused.missing.map(\.hostPages) == [5])
            #expect(paused.missing.map(\.block) == ["high"])
        }

        @Test("a later list may name only the blocks that it resizes")
        func partialList() throws {
            var script = try ListScript()
            let bytes =
                script.start(4) + ListScript.relist([ListScript.list(2)[1]])
                + script.pages(0, 0..<16) + script.pages(1, 0..<2) + script.script.package
            let destination = try Self.destination(16)
            let report = try Self.play(bytes, script.script.end, to: destination)
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.memory[1].usedPages == 2)
        }

        struct Refused: CustomTestStringConvertible, Sendable {
            let testDescription: String
            let problem: String
            let make: @Sendable (inout ListScript) -> [UInt8]
        }

        static let unfit: [Refused] = [
            Refused(testDescription: "a list behind a discard", problem: "'discarding'") {
                $0.start(8) + ListScript.discards((0, [2..<4])) + ListScript.relist(9)
            },
            Refused(
                testDescription: "a fixed block with another length",
                problem: "'low' has 32768 bytes at the source, expected 65536"
            ) {
                let low = try? BlockGeometry(name: "low", lengthBytes: 32768, hostPage: .target)
                return $0.start(8) + ListScript.relist([low].compactMap(\.self).listed)
            },
            Refused(testDescription: "more than there is room for", problem: "room for 65536") {
                let high = try? BlockGeometry(name: "high", lengthBytes: 69632, hostPage: .target)
                return $0.start(8) + ListScript.relist([high].compactMap(\.self).listed)
            },
            Refused(testDescription: "an unknown block in a later list", problem: "'other'") {
                let other = try? BlockGeometry(name: "other", lengthBytes: 4096, hostPage: .target)
                return $0.start(8) + ListScript.relist([other].compactMap(\.self).listed)
            },
            Refused(
                testDescription: "a page beyond the used length",
                problem: "offset 0x8000 of RAM block 'high', which has 32768 bytes"
            ) { $0.start(8) + $0.pages(1, 7..<9) },
            Refused(
                testDescription: "a page that was lost", problem: "'high', which has 4096 bytes"
            ) { $0.start(8) + ListScript.relist(1) + $0.pages(1, 1..<2) },
            Refused(
                testDescription: "a discard beyond the used length",
                problem: "8192 bytes at 0x7000, outside RAM block 'high'"
            ) { $0.start(8) + ListScript.discards((1, [7..<9])) },
        ]

        @Test("what cannot be followed fails, and the source is told", arguments: unfit)
        func early(_ refused: Refused) throws {
            var script = try ListScript()
            let destination = try Self.destination(16)
            let report = try Self.play(refused.make(&script), [], to: destination)
            #expect(report.status == .failed)
            let problem = report.problem ?? ""
            #expect(problem.contains(refused.problem), "\(problem)")
            #expect(!destination.guest.isRunning)
            try destination.guest.memory[1].resize(to: 4096)
        }

        static let tooLate: [Refused] = [
            Refused(testDescription: "a list", problem: "the block list came in phase 'running'") {
                _ in ListScript.relist(9)
            },
            Refused(testDescription: "a page beyond the used length", problem: "0x8000 of RAM") {
                $0.pages(1, 8..<9)
            },
        ]

        @Test("behind LISTEN it pauses", arguments: tooLate)
        func late(_ refused: Refused) throws {
            var script = try ListScript()
            let destination = try Self.destination(16)
            let report = try Self.play(
                script.start(8) + script.script.package, refused.make(&script), to: destination)
            #expect(report.status == .postcopyPaused)
            let problem = report.problem ?? ""
            #expect(problem.contains(refused.problem), "\(problem)")
        }

        @Test("the urgent channel knows the length of the last list", arguments: [[7], [7, 8]])
        func urgent(pages: [Int]) throws {
            var script = try ListScript()
            let destination = try Self.destination(16)
            let main = SocketBox(try StreamSocket.connect(to: destination.address))
            main.send(script.start(2))
            var reader = RawReader()
            _ = reader.read(8, from: main.socket)
            let channel = SocketBox(try StreamSocket.connect(to: destination.address))
            // The channel is known, as a rule, before the list that matters.
            for _ in 0..<5 {
                main.send(SourceScript.commands([.ping(9)], []))
                _ = reader.read(8, from: main.socket)
            }
            main.send(
                ListScript.relist(8) + script.pages(0, 0..<16) + script.pages(1, 0..<7)
                    + script.script.package)
            _ = reader.readCommit(from: main.socket)
            var encoder = RAMRecordEncoder(blocks: RuntimeLaws.ScriptedSourceTests.geometries)
            var records: [UInt8] = []
            for page in pages {
                encoder.appendZeroPage(
                    block: BlockIndex(rawValue: 1), offset: RAMOffset(rawValue: UInt64(page) << 12),
                    to: &records)
            }
            channel.send(records)
            if pages == [7] { main.send(script.script.end) }
            _ = reader.readSuccess(from: main.socket)
            main.socket.shutDown()
            let report = try #require(destination.report(withinSeconds: 5))
            #expect(report.status == (pages == [7] ? .completed : .postcopyPaused))
            let problem = report.problem ?? ""
            #expect(problem.contains("32768 bytes") == (pages != [7]), "\(problem)")
        }

        @Test("discards that overlap count each page once, in one command or in several")
        func overlapping() throws {
            var script = try ListScript()
            let received = script.start(8) + script.pages(0, 0..<16) + script.pages(1, 0..<8)
            let discards = ListScript.discards(
                (0, [2..<4, 3..<6, 2..<6]), (1, [0..<1, 0..<1]), (0, [5..<6, 0..<4]))
            let early = received + discards + script.script.package
            let paused = try Self.play(early, script.script.end, to: Self.destination(16))
            #expect(paused.status == .postcopyPaused)
            #expect(paused.missing.map(\.hostPages) == [6, 1])
            let rest = script.pages(0, 0..<6) + script.pages(1, 0..<1)
            let destination = try Self.destination(16)
            let report = try Self.play(early, rest + script.script.end, to: destination)
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.wrongWords() == 0)
        }
    }
}
