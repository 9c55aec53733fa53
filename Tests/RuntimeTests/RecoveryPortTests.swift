import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

/// What is no hello: said, then the connection is ended or left open.
private enum Garbage {
    private static let blocks = (try? sparseGuest())?.memory.map(\.geometry) ?? []
    static let all: [[UInt8]] = [
        [], [8], [8, 0x50, 0x43], Array(repeating: 0xff, count: 70_000), Array("GET / HTTP".utf8),
        SourceScript.commands([.receivedBitmap(block: BlockIndex(rawValue: 0))], blocks),
        SourceScript.commands([.postcopyResume], blocks), Array("QEVM\0\0\0\u{3}".utf8),
        [8, 0x50, 0x43, 0, 0x18] + Array(repeating: 7, count: 16) + [0, 0, 0, 9, 0, 0, 0, 1],
        [8, 0x50, 0x43, 0, 0x17] + Array(repeating: 7, count: 23),
    ]
}

extension RuntimeLaws {
    /// Whoever comes to a destination whose source is away.
    @Suite("The door of a paused destination")
    struct RecoveryPortTests {
        /// Who is turned away by word, with a reason.
        enum Intruder: CaseIterable, Sendable {
            case wrongToken, lateAttempt, urgentHello, wrongUrgentHello
        }

        @Test(
            "a hello that is not the source's is refused with a reason",
            arguments: Intruder.allCases)
        func refused(_ intruder: Intruder) throws {
            var source = try RecoveringSource()
            try source.begin()
            let (bytes, answer): ([UInt8], RecoveryAnswer) =
                switch intruder {
                case .wrongToken: (source.hello(1, token: .random()), .stranger)
                case .lateAttempt: (source.hello(0), .busy)
                case .urgentHello: (source.hello(1, channel: .urgent), .stranger)
                case .wrongUrgentHello:
                    (source.hello(0, token: .random(), channel: .urgent), .stranger)
                }
            for _ in 0..<3 {
                let said = try source.knock(bytes)
                #expect(said.last == .answer(answer), "\(said)")
                try #require(said.count == 2)
                #expect(said[0].type == 0x5044 && !said[0].payload.isEmpty)
            }
            try source.complete(attempt: 1)
        }

        @Test("garbage changes nothing, ended or left open", arguments: Garbage.all.indices)
        func garbage(_ index: Int) throws {
            var source = try RecoveringSource()
            try source.begin()
            let open = try source.connect()
            open.send(Garbage.all[index])
            let ended = try source.connect()
            ended.send(Garbage.all[index])
            ended.socket.shutDown()
            let (main, answer) = try source.comeBack(1)
            #expect(answer == [.answer(.running)])
            let late = try source.connect()
            late.send(Garbage.all[index])
            _ = try source.finish(on: main)
            try source.expectCompleted()
        }

        @Test("more strangers than there is room for, and all of them silent")
        func crowd() throws {
            var source = try RecoveringSource()
            try source.begin()
            let crowd = try (0..<20).map { _ in try source.connect() }
            try source.complete(attempt: 1)
            _ = crowd
        }

        @Test("two sources at once: the later attempt counts, the other is ended")
        func twoSources() throws {
            var source = try RecoveringSource()
            try source.begin()
            let (first, answer) = try source.comeBack(1)
            #expect(answer == [.answer(.running)])
            let same = try source.knock(source.hello(1))
            #expect(same.last == .answer(.busy) && same.count == 2, "\(same)")
            let (second, later) = try source.comeBack(2)
            #expect(later == [.answer(.running)])
            var reader = RawReader()
            _ = reader.readAll(from: first.socket)
            let old = try source.knock(source.hello(1))
            #expect(old.last == .answer(.busy))
            _ = try source.finish(on: second)
            try source.expectCompleted()
        }

        @Test("a source that comes back while its old link is up as far as one knows here")
        func takesOver() throws {
            var source = try RecoveringSource()
            try source.begin()
            let (first, _) = try source.comeBack(1)
            let stranger = try source.knock(source.hello(5, token: .random()))
            #expect(stranger.last == .answer(.stranger))
            let (second, answer) = try source.comeBack(7)
            #expect(answer == [.answer(.running)])
            _ = try source.finish(on: second)
            let breaks = try source.expectCompleted().breaks
            #expect(breaks.map(\.attempts) == [2], "one break, whatever broke inside its recovery")
            _ = first
        }

        @Test("a hello to who waits for a migration: nothing is paused here")
        func fresh() throws {
            var source = try RecoveringSource()
            let said = try source.knock(source.hello(1, token: .random()))
            #expect(said.last == .answer(.stranger) && said.count == 2)
            #expect(said.first?.text == "no migration is paused here")
            try source.begin()
            try source.complete(attempt: 1)
        }

        @Test(
            "a hello to a migration that is complete, and to one that is complete and known to be")
        func completed() throws {
            var source = try RecoveringSource()
            try source.begin()
            let (main, _) = try source.comeBack(1)
            _ = try source.finish(on: main, acknowledges: false)
            // Nobody answers faults any more, and pages that came as zero were never touched.
            let memory = source.destination.guest.memory
            let toucher = try Bounded("toucher") {
                memory.reduce(0) { sum, ram in
                    (0..<ram.geometry.targetPageCount).reduce(sum) {
                        $0 &+ ram.loadWord(at: UInt64($1) << 12)
                    }
                }
            }
            #expect(toucher.output() != nil)
            #expect(source.destination.current?.progress.status == .completed)
            #expect(try source.knock(source.hello(2, token: .random())).last == .answer(.stranger))
            #expect(try source.knock(source.hello(2)).last == .answer(.completed))
            #expect(try source.knock(source.hello(3)).last == .answer(.completed))
            try source.expectCompleted()
            #expect(throws: ChannelError.self) { try source.connect() }
        }

        @Test(
            "one that was paused by hand and given up before its guest ran says that it never did")
        func heldAndGivenUp() throws {
            let gate = try Gate()
            var held = try HeldDestination(whileLoading: { gate.pass() })
            let first = try held.open(upTo: Answers.pong(2))
            #expect(gate.holds())
            #expect(held.session.pause())
            #expect(held.pauses())
            first.cut()
            let early = try held.knock(1)
            try #expect(early.message().text == "the destination was paused by hand")
            try #expect(early.message() == .answer(.busy))
            #expect(held.session.abandon())
            #expect(atLast { held.session.progress.status == .failed })
            gate.open()
            let late = try held.knock(2)
            while try late.message() != .answer(.neverRan) {}
            try #expect(#require(held.source.destination.report(), "hangs").status == .failed)
        }

        @Test(
            "a link that broke at the switch is over, which the source is told should it come back")
        func brokeAtSwitch() throws {
            var source = try RecoveringSource()
            // All but the end of the package.
            let main = try source.open(share: 0.999, upTo: Answers.pong(2))
            main.socket.shutDown()
            let session = try #require(source.destination.current)
            #expect(eventually { session.progress.recovery.farewell != nil })
            #expect(session.progress.status == .failed)
            #expect(session.progress.recovery.farewell?.problem.isEmpty == false)
            for _ in 0..<3 {
                let said = try source.knock(source.hello(1, token: .random()))
                #expect(said.last == .answer(.stranger))
            }
            // A stranger does not shorten what the source is given.
            let until = try #require(session.progress.recovery.farewell?.untilNanoseconds)
            #expect(until > Monotonic.now() + 60_000_000_000)
            #expect(try source.knock(source.hello(1)).last == .answer(.neverRan))
            source.destination.cancel()
            let report = try #require(source.destination.report(), "hangs")
            #expect(report.status == .failed && !report.guestRunsHere)
            #expect(session.progress.recovery.farewell == nil)
        }

        @Test("a link that broke before the guest could move is over")
        func neverStarted() throws {
            var source = try RecoveringSource()
            try source.begin(share: 0.5)
            let report = try #require(source.destination.report(), "hangs")
            #expect(report.status == .failed && !report.guestRunsHere)
            #expect(report.breaks.isEmpty)
            #expect(throws: ChannelError.self) { try source.connect() }
        }
    }
}
