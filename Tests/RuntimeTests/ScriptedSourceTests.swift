import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

/// Everything that owns sockets, threads and userfaultfds runs one after the other.
@Suite("The runtime", .serialized)
struct RuntimeLaws {}

extension RuntimeLaws {
    /// A destination against bytes that no runtime of ours wrote.
    @Suite("A destination and a scripted source")
    struct ScriptedSourceTests {
        let script: SourceScript

        init() throws { script = SourceScript(guest: try sparseGuest()) }

        func destination(
            _ options: MigrationOptions = testOptions(), vcpus: Bool = false
        ) throws -> DestinationUnderTest {
            let guest = try PatternGuest(blocks: SourceScript.blocks, vcpuCount: 1)
            guest.expect(only: SourceScript.pagesWithContent)
            return try DestinationUnderTest(guest, options: options, vcpus: vcpus)
        }

        @Test("a whole stream completes with the right memory")
        func completes() throws {
            let destination = try destination(vcpus: true)
            let main = try StreamSocket.connect(to: destination.address)
            try main.send(script.head.span)
            let urgent = try StreamSocket.connect(to: destination.address)
            try main.send(Array(script.main.dropFirst(script.head.count)).span)
            var reader = RawReader()
            var answers = reader.readCommit(from: main)
            try urgent.send(script.urgent.span)
            answers += reader.readSuccess(from: main)
            main.shutDown()
            let report = try #require(destination.report())
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.wrongWords() == 0)
            #expect(destination.guest.mismatches.load(ordering: .relaxed) == 0)
            #expect(report.progress.urgentPages == 4)
            #expect(answers.suffix(8) == [0, 1, 0, 4, 0, 0, 0, 0])
        }

        @Test("a page that comes as zero behind its discard is zero")
        func zeroAfterDiscard() throws {
            // Page 2 was stale before.
            let content = SourceScript.pagesWithContent.subtracting([[0, 2]])
            let from = try PatternGuest(blocks: SourceScript.blocks)
            from.fill(only: content)
            var script = SourceScript(guest: from)
            script.discards += script.section(last: false) { script, bytes in
                script.append(0, 2, content: nil, to: &bytes)
            }
            script.postcopy = script.section(last: false) { script, bytes in
                for (block, pages) in [[3...3, 12...15], [4...15]].enumerated() {
                    for page in pages.joined() {
                        script.append(block, page, content: script.content(block, page), to: &bytes)
                    }
                }
            }
            let guest = try PatternGuest(blocks: SourceScript.blocks)
            guest.expect(only: content)
            let destination = try DestinationUnderTest(guest)
            let main = SocketBox(try StreamSocket.connect(to: destination.address))
            main.send(script.main)
            var reader = RawReader()
            _ = reader.readSuccess(from: main.socket)
            main.socket.shutDown()
            let report = try #require(destination.report())
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(guest.wrongWords() == 0)
        }

        /// Every byte of the stream but the inside of page contents.
        static func cuts(of script: SourceScript) -> [Int] {
            let main = script.main
            var cuts: [Int] = []
            for cut in 0..<main.count {
                let around = main[max(0, cut - 24)..<min(main.count, cut + 24)]
                if Set(around).count > 2 || cut % 509 == 0 { cuts.append(cut) }
            }
            return cuts
        }

        @Test("a stream cut at any byte fails before the package and pauses at the latest after")
        func cut() throws {
            for cut in Self.cuts(of: script) {
                let destination = try destination(vcpus: cut % 7 == 0)
                let part = Array(script.main.prefix(cut))
                do {
                    let main = try StreamSocket.connect(to: destination.address)
                    if cut > 0 { try main.send(part.span) }
                    // Whoever goes without reading the answers resets the connection.
                    if cut % 3 != 0 { main.shutDownSending() }
                    if cut % 3 == 1 {
                        var reader = RawReader()
                        _ = reader.readAll(from: main)
                    }
                }
                let report = try #require(destination.report(), "hangs at byte \(cut)")
                try check(report, cutAt: cut, destination.guest)
            }
        }

        private func check(
            _ report: DestinationReport, cutAt cut: Int, _ guest: PatternGuest
        ) throws {
            let problem = try #require(report.problem, "no problem at byte \(cut)")
            #expect(!problem.isEmpty)
            if cut < script.packageEnd - 9 {
                #expect(report.status == .failed, "byte \(cut): \(problem)")
            } else {
                let isExpected = report.status == .failed || report.status == .postcopyPaused
                #expect(isExpected, "byte \(cut): \(report.status), \(problem)")
            }
            #expect(report.guestRunsHere == guest.isRunning, "byte \(cut)")
            #expect(report.guestRunsHere == (report.status == .postcopyPaused), "byte \(cut)")
        }

        @Test("a stream in single bytes is the same stream")
        func singleBytes() throws {
            let destination = try destination()
            let main = try StreamSocket.connect(to: destination.address)
            main.sendAtOnce()
            let urgent = try StreamSocket.connect(to: destination.address)
            for byte in script.main { try main.send([byte].span) }
            var reader = RawReader()
            _ = reader.readCommit(from: main)
            for byte in script.urgent { try urgent.send([byte].span) }
            let report = try #require(destination.report())
            #expect(report.status == .completed, "\(report.problem ?? "")")
            #expect(destination.guest.wrongWords() == 0)
        }
    }
}
