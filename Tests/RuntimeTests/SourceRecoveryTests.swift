import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing

extension RuntimeLaws {
    /// A source whose link breaks, against a destination that the test plays.
    @Suite("A source comes back")
    struct SourceRecoveryTests {
        typealias Cut = RecoveringDestination.Cut

        static func options(
            _ mode: RecoveryOptions.Mode = .automatic, preempt: Bool = false
        ) -> MigrationOptions {
            var options = testOptions(preempt: preempt)
            options.recovery.mode = mode
            return options
        }

        static func destination(
            _ options: MigrationOptions = options(), isOwn: Bool = true, pages: Int = 600
        ) throws -> RecoveringDestination {
            let source = try ScriptedDestinationTests.source(options, pages: pages)
            return RecoveringDestination(source, isOwn: isOwn, usesUrgent: options.preempt)
        }

        /// The source's end: every page once, and as many breaks as there were.
        static func expectCompleted(
            _ destination: RecoveringDestination, breaks: Int,
            line: SourceLocation = #_sourceLocation
        ) throws {
            destination.expectWhole(line: line)
            let report = try #require(
                destination.source.report(), "hangs", sourceLocation: line)
            #expect(report.status == .completed, "\(report.problem ?? "")", sourceLocation: line)
            #expect(report.problem == nil, sourceLocation: line)
            #expect(!report.guestRunsHere && !destination.source.guest.isRunning)
            #expect(report.breaks.count == breaks, sourceLocation: line)
            for linkBreak in report.breaks {
                #expect(!linkBreak.problem.isEmpty, sourceLocation: line)
                #expect(linkBreak.attempts > 0, sourceLocation: line)
                let back = try #require(linkBreak.linkBackAtNanoseconds, sourceLocation: line)
                let resumed = try #require(linkBreak.resumedAtNanoseconds, sourceLocation: line)
                #expect(linkBreak.pausedAtNanoseconds <= back, sourceLocation: line)
                #expect(back <= resumed, sourceLocation: line)
            }
            let statuses = report.changes.map(\.status)
            #expect(statuses.filter { $0 == .postcopyPaused }.count >= breaks)
            #expect(statuses.filter { $0 == .postcopyRecover }.count >= breaks)
        }

        /// Waits for the source to say that nothing more happens by itself.
        static func expectWaits(
            _ source: SourceUnderTest, line: SourceLocation = #_sourceLocation
        ) throws -> SourceProgress {
            let waits = eventually {
                let progress = source.session.progress
                return progress.recovery.waitsForSomebody && progress.status == .postcopyPaused
            }
            #expect(waits, "the source does not wait", sourceLocation: line)
            return source.session.progress
        }

        static let firstCuts: [Cut] = [
            .package, .pages(1), .pages(100), .pages(606), .pages(607), .end,
        ]

        @Test("by itself, wherever the link broke", arguments: firstCuts, [false, true])
        func automatic(_ cut: Cut, preempt: Bool) throws {
            var destination = try Self.destination(Self.options(preempt: preempt))
            try destination.begin(cut)
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 1)
        }

        @Test("twice in a row, and then again", arguments: [false, true])
        func again(preempt: Bool) throws {
            var destination = try Self.destination(Self.options(preempt: preempt))
            try destination.begin(.pages(50))
            try destination.resume(.pages(51))
            try destination.resume(.pages(300))
            try destination.resume(.end)
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 4)
            let attempts = destination.hellos.map(\.attempt)
            #expect(zip(attempts, attempts.dropFirst()).allSatisfy { $0 < $1 })
        }

        @Test(
            "when the recovery breaks as well",
            arguments: [Cut.hello, .answer, .bitmap, .bitmaps, .resume], [false, true])
        func insideRecovery(_ cut: Cut, preempt: Bool) throws {
            var destination = try Self.destination(Self.options(preempt: preempt))
            try destination.begin(.pages(100))
            try destination.resume(cut)
            try destination.resume(cut)
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 1)
        }

        @Test("requests are answered first, before the rest")
        func requests() throws {
            var destination = try Self.destination(Self.options(preempt: true))
            try destination.begin(.pages(10))
            let late = destination.placed[0].indices.suffix(3)
            destination.requests = late.filter { destination.placed[0][$0] == 0 }
                .map { (block: 0, page: $0) }
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 1)
        }

        /// What a destination may make of a bitmap, and what the source says to it.
        static let badBitmaps:
            [(name: String, change: @Sendable ([UInt8]) -> [UInt8], word: String)] = [
                ("too short", { $0.replacing(at: 15, by: [72]) }, "80"),
                ("no end mark", { $0.dropLast(8) + Array(repeating: 0, count: 8) }, "end"),
                ("unknown block", { $0.replacing(at: 5, by: Array("lo?".utf8)) }, "lo?"),
                ("bits beyond the block", { $0.replacing(at: $0.count - 9, by: [0xff]) }, "low"),
                ("twice", { $0 + $0 }, "second bitmap"),
                (
                    "a request instead",
                    { _ in
                        ScriptedDestinationTests.request(
                            start: 0, length: 4096, "low")
                    }, "asked for pages"
                ),
                ("acknowledged at once", { _ in [0, 6, 0, 4, 0, 0, 0, 1] }, "RESUME_ACK"),
            ]

        @Test("a bad bitmap pauses again, and the next one counts", arguments: badBitmaps.indices)
        func badBitmap(_ index: Int) throws {
            let bad = Self.badBitmaps[index]
            var destination = try Self.destination()
            try destination.begin(.pages(100))
            try? destination.resume(.bitmaps, bitmap: bad.change)
            let refusal = destination.source.refusal()
            #expect(refusal.contains(bad.word), "\(bad.name): \(refusal)")
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 1)
        }

        @Test("what was completed meanwhile is completed")
        func completed() throws {
            var destination = try Self.destination()
            try destination.begin(.end)
            try destination.refuse(.recoveryAnswer(.completed))
            let report = try #require(destination.source.report())
            #expect(report.status == .completed)
            #expect(report.breaks.count == 1)
        }

        @Test("a guest that never ran there runs here again")
        func neverRan() throws {
            var destination = try Self.destination()
            try destination.begin(.package)
            try destination.refuse(.refusalReason("no room"), .recoveryAnswer(.neverRan))
            try ScriptedDestinationTests.check(destination.source, .failed, "no room")
        }

        @Test(
            "an answer that cannot be right, and one that turns away, change nothing",
            arguments: [RecoveryAnswer.completed, .neverRan, .stranger, .busy])
        func turnedAway(_ answer: RecoveryAnswer) throws {
            var destination = try Self.destination()
            try destination.begin(.pages(100))
            try destination.refuse(.refusalReason("not now"), .recoveryAnswer(answer))
            let refusal = destination.source.refusal()
            let expected = answer == .completed ? "cannot be" : "not now"
            #expect(refusal.contains(expected), "\(refusal)")
            try destination.resume(.never)
            try Self.expectCompleted(destination, breaks: 1)
        }

        /// What some other program may say to the hello.
        static let strangers: [[UInt8]] = [
            Answers.shut(1), Answers.shut(0), Answers.pong(0x42), Array("HTTP/1.1 400\r\n".utf8),
            [0, 6, 0, 4, 0, 0, 0, 1],
        ]

        @Test("who does not answer the hello is not believed", arguments: strangers)
        func stranger(_ words: [UInt8]) throws {
            var destination = try Self.destination()
            try destination.begin(.package)
            let main = try destination.comeBack()
            main.send(words)
            #expect(destination.source.refusal().contains("broke the protocol"))
            try destination.resume(.never, answer: .waiting)
            try Self.expectCompleted(destination, breaks: 1)
        }
    }
}

extension SourceUnderTest {
    /// Why an attempt to come back has failed, once one has.
    func refusal() -> String {
        _ = eventually { session.progress.recovery.refusal != nil }
        return session.progress.recovery.refusal ?? ""
    }
}

extension [UInt8] {
    fileprivate func replacing(at start: Int, by bytes: [UInt8]) -> [UInt8] {
        var copy = self
        copy.replaceSubrange(start..<start + bytes.count, with: bytes)
        return copy
    }
}
