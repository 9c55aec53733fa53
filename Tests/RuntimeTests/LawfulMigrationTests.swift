import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Testing

extension RuntimeLaws {
    /// Whole migrations between our own two ends, their bytes judged as a stock QEMU would.
    @Suite("What a stock QEMU punishes is never written")
    struct LawfulMigrationTests {
        enum Precopy: CaseIterable { case none, switched, complete }

        struct Way: CustomTestStringConvertible, Sendable {
            let preempt: Bool
            let precopy: Precopy
            let isHuge: Bool
            var testDescription: String {
                "preempt \(preempt), precopy \(precopy), huge pages \(isHuge)"
            }
        }

        static let ways = [true, false].flatMap { preempt in
            Precopy.allCases.flatMap { precopy in
                [true, false].map { Way(preempt: preempt, precopy: precopy, isHuge: $0) }
            }
        }

        private static let small: Pair.Blocks = [
            (name: "low", pages: 900, backing: .anonymous),
            (name: "high", pages: 300, backing: .memfd),
        ]

        private static let larger: Pair.Blocks = [
            (name: "huge", pages: 2, backing: .hugetlb),
            (name: "low", pages: 300, backing: .anonymous),
            (name: "large", pages: 1, backing: .hugetlb),
        ]

        private func options(_ way: Way) -> MigrationOptions {
            switch way.precopy {
            case .none: testOptions(preempt: way.preempt)
            case .switched:
                PrecopyTests.options(preempt: way.preempt) {
                    $0.switchover = PrecopyTests.settings(rounds: 2)
                }
            case .complete:
                PrecopyTests.options(preempt: way.preempt) {
                    $0.switchover = PrecopyTests.settings(downtime: 1_000_000_000)
                }
            }
        }

        private func judge(
            _ recorder: MigrationRecorder, _ guest: any Guest, _ ending: StockQEMU.Ending
        ) -> [String] {
            let geometries = guest.memory.map(\.geometry)
            let breaches = StockQEMU.judge(
                recorder.migration, blocks: geometries, ending: ending)
            return breaches.prefix(9).map(\.description)
        }

        @Test("by a guest that writes all the time", arguments: ways)
        func completes(_ way: Way) throws {
            let blocks = way.isHuge ? Self.larger : Self.small
            let pair = try WritingPair(
                blocks: blocks, hotPages: way.precopy == .complete ? 4 : nil, hugeIn: .anonymous)
            let recorder = MigrationRecorder()
            let outcome = try #require(
                try pair.migrate(options(way), recorder: recorder) { source in
                    if way.precopy == .none { source.startPostcopy() }
                })
            #expect(outcome.source.status == .completed, "\(outcome.source.problem ?? "")")
            let problem = outcome.destination.problem ?? ""
            #expect(outcome.destination.status == .completed, "\(problem)")
            #expect(pair.destination.wrongPages() == 0)
            #expect(judge(recorder, pair.source, .completed) == [])
        }

        @Test("by many threads that fault and devices that touch memory", arguments: [true, false])
        func crowd(preempt: Bool) throws {
            let memory = { try guestMemory(Self.larger, hugeIn: .memfd) }
            let to = try PatternGuest(
                memory: memory(), vcpuCount: 24, loadTouches: [[0, 1_000], [1, 5], [2, 500]])
            var pair = TwoGuests(from: try PatternGuest(memory: memory()), to: to)
            pair.from.fill()
            pair.sends.preempt = preempt
            pair.receives.preempt = preempt
            let recorder = MigrationRecorder()
            pair.recorder = recorder
            let outcome = try pair.migrate()
            outcome.expectCompleted()
            #expect(outcome.destination.progress.requests > 0)
            #expect(judge(recorder, pair.from, .completed) == [])
        }

        @Test("by a destination that refuses the devices", arguments: [true, false])
        func refused(preempt: Bool) throws {
            var pair = TwoGuests(
                from: try PatternGuest(blocks: Self.small),
                to: try PatternGuest(blocks: Self.small, refusesDevices: true))
            pair.sends.preempt = preempt
            let recorder = MigrationRecorder()
            pair.recorder = recorder
            try pair.migrate().expectRefused("not my devices")
            #expect(judge(recorder, pair.from, .refused) == [])
        }

        @Test("by a source that is cancelled", arguments: [0, 1, 3])
        func cancelled(rounds: Int) throws {
            let pair = try WritingPair(blocks: Self.small)
            let recorder = MigrationRecorder()
            let options = PrecopyTests.options { _ in }
            let outcome = try #require(
                try pair.migrate(options, recorder: recorder) { source in
                    PrecopyTests.awaitRounds(rounds, of: source)
                    source.cancel()
                })
            #expect(outcome.source.status == .cancelled)
            #expect(judge(recorder, pair.source, .cut) == [])
        }

        @Test("by two ends whose link is cut", arguments: [true, false])
        func cut(preempt: Bool) throws {
            let blocks: Pair.Blocks = [(name: "low", pages: 150, backing: .anonymous)]
            for bytes in [0, 9, 50, 120, 190, 240, 260, 300, 5_000, 99_999, 300_000, 420_000] {
                var pair = TwoGuests(
                    from: try PatternGuest(blocks: blocks), to: try PatternGuest(blocks: blocks))
                pair.from.fill()
                pair.sends = testOptions(preempt: preempt, silenceMilliseconds: 1_000)
                pair.receives = pair.sends
                pair.cutAfter = bytes
                let recorder = MigrationRecorder()
                pair.recorder = recorder
                let outcome = try pair.migrate()
                #expect(!(outcome.sourceRuns && outcome.destinationRuns))
                #expect(judge(recorder, pair.from, .cut) == [], "cut after \(bytes) bytes")
            }
        }

        @Test(
            "by a destination whose source breaks the protocol",
            arguments: ScriptedSourceTests.heads + ScriptedSourceTests.orders
                + ScriptedSourceTests.options + ScriptedSourceTests.late)
        func brokenStream(_ refused: ScriptedSourceTests.Refused) throws {
            var script = SourceScript(guest: try sparseGuest())
            let guest = try PatternGuest(blocks: SourceScript.blocks, vcpuCount: 1)
            guest.expect(only: SourceScript.pagesWithContent)
            let destination = try DestinationUnderTest(
                guest, options: testOptions(silenceMilliseconds: 300), vcpus: true)
            let recorder = MigrationRecorder()
            let proxy = try CuttingProxy(to: destination.address, recorder: recorder)
            let main = SocketBox(try StreamSocket.connect(to: proxy.address))
            var reader = RawReader()
            if refused.isLate {
                main.send(script.beforePackage + script.package)
                _ = reader.readCommit(from: main.socket)
            }
            main.send(refused.make(&script))
            _ = reader.readShut(from: main.socket)
            main.socket.shutDownSending()
            let report = try #require(destination.report(withinSeconds: 5))
            #expect(proxy.stop())
            #expect(report.status == (refused.isLate ? .postcopyPaused : .failed))
            let laws: Set<StockQEMULaw> = [
                .returnPathOpen, .message, .pongAsked, .commitment, .requestTime, .requestNamed,
                .requestShape, .shutLast, .shutEarly, .shutCommitted,
            ]
            let breaches = StockQEMU.judge(
                recorder.migration, blocks: guest.memory.map(\.geometry), ending: .cut)
            #expect(breaches.filter { laws.contains($0.law) }.map(\.description) == [])
        }
    }
}
