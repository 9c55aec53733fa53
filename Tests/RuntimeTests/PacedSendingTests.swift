import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import StreamWire
import Synchronization
import TestSupport
import Testing

@testable import PostcopyRuntime

extension RuntimeLaws {
    /// Limits at which a wait that is not ended would outlast every deadline here.
    @Suite("A limited rate")
    struct PacedSendingTests {
        @Test("without a limit nobody waits, whatever was sent")
        func unlimited() throws {
            let pace = try PacedSending(bytesPerSecond: nil)
            pace.noteSent(.max)
            pace.wake()
            #expect(pace.awaitTurn(nanosecondsMax: .max) == .write(bytesMax: .max))
            // A wake that nobody needed is not kept for a limit that comes later.
            pace.setLimit(bytesPerSecond: 1)
            pace.noteSent(1_000)
            #expect(pace.awaitTurn(nanosecondsMax: 0) == .early)
        }

        @Test("a turn comes when the limit says, not before and not without end")
        func turn() throws {
            let start = Monotonic.now()
            let pace = try PacedSending(bytesPerSecond: 1_000_000)
            #expect(pace.awaitTurn(nanosecondsMax: 0) == .write(bytesMax: 5_000))
            pace.noteSent(50_000)
            #expect(pace.awaitTurn(nanosecondsMax: .max) == .write(bytesMax: 5_000))
            #expect(Monotonic.now() - start >= 50_000_000)
        }

        @Test("urgent bytes are the background's to wait for")
        func urgent() throws {
            let start = Monotonic.now()
            let pace = try PacedSending(bytesPerSecond: 1_000_000)
            pace.noteUrgent(30_000)
            #expect(pace.awaitTurn(nanosecondsMax: 0) == .write(bytesMax: 5_000))
            pace.noteSent(10_000)
            #expect(pace.awaitTurn(nanosecondsMax: .max) == .write(bytesMax: 5_000))
            #expect(Monotonic.now() - start >= 40_000_000)
        }

        @Test("a wait is ended by a wake and by another limit, early or late", arguments: 0..<20)
        func woken(round: Int) throws {
            let pace = try PacedSending(bytesPerSecond: 1)
            pace.noteSent(1 << 30)
            let started = try EventFlag()
            let waiter = try Bounded("waiter") {
                started.raise()
                return pace.awaitTurn(nanosecondsMax: .max)
            }
            // Sometimes the wait has begun by now, and sometimes not.
            if round % 4 < 2 { started.wait() }
            if round % 2 == 0 {
                pace.wake()
                #expect(waiter.output(withinSeconds: 5) == .woken)
                #expect(pace.awaitTurn(nanosecondsMax: 1_000) == .early)
            }
            pace.setLimit(bytesPerSecond: nil)
            let turn = round % 2 == 0 ? pace.awaitTurn(nanosecondsMax: 0) : waiter.output()
            let changed = PacedSending.Turn.write(bytesMax: .max)
            #expect(turn == changed || round % 2 == 1 && turn == .woken)
        }

        @Test(
            "a guest that asks for every page gets it, whatever the limit",
            arguments: [true, false])
        func requests(preempt: Bool) throws {
            var pair = Pair()
            pair.preempt = preempt
            pair.maxPostcopyBandwidth = 1
            let outcome = try pair.complete([
                (name: "low", pages: 200, backing: .anonymous),
                (name: "high", pages: 9, backing: .memfd),
            ])
            let progress = outcome.source.progress
            // The first page went before anybody had to wait.
            #expect(progress.urgentPages >= 200)
            // A third of the pages is zero, and those take no more than their record.
            #expect(progress.urgentBytes > 130 * 4096)
            #expect(progress.urgentBytes < progress.sentBytes.total)
        }

        @Test(
            "a guest with huge pages gets those that it asks for, whatever the limit",
            .enabled(if: HugePagePool.canHold(24), "needs 24 free huge pages of 2 MiB"),
            arguments: [true, false])
        func hugeRequests(preempt: Bool) throws {
            let pool = HugePagePool(reserving: 24)
            defer { pool.release() }
            var pair = Pair()
            pair.preempt = preempt
            pair.maxPostcopyBandwidth = 1
            try pair.complete([(name: "huge", pages: 12, backing: .hugetlb)])
        }

        @Test(
            "a huge page on its way is not held back from who asks for it",
            .enabled(if: HugePagePool.canHold(4), "needs 4 free huge pages of 2 MiB"),
            arguments: [true, false])
        func hugeOnItsWay(preempt: Bool) throws {
            let pool = HugePagePool(reserving: 4)
            defer { pool.release() }
            let guest = try PatternGuest(blocks: [(name: "huge", pages: 3, backing: .hugetlb)])
            guest.fill()
            var options = testOptions(preempt: preempt)
            options.maxPostcopyBandwidth = 1
            let source = try SourceUnderTest(guest, options: options)
            let main = try source.accept()
            main.send(Answers.ready)
            let counter = try PageCounter(guest)
            let reading = try Bounded("main") { counter.readMain(main) }
            let urgent = preempt ? try source.accept() : nil
            let readingUrgent = try urgent.map { box in
                try Bounded("urgent") { counter.readUrgent(box) }
            }
            #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
            main.send(Answers.pong(0x42))
            // In pieces of 16 pages or more, with a second behind each.
            try awaitPages(0..<16, of: counter)
            var answers = Answers(guest)
            answers.request(0, page: 0, of: guest)
            main.send(answers.take())
            try awaitPages(0..<512, of: counter)
            answers.request(0, page: 1, of: guest)
            answers.request(0, page: 2, of: guest)
            main.send(answers.take())
            try #require(reading.output() != nil)
            if let readingUrgent { try #require(readingUrgent.output() != nil) }
            #expect(counter.isWhole && counter.areAllOnce)
            main.send(Answers.shut(0))
            try ScriptedDestinationTests.check(source, .completed, "")
        }

        /// Waits until the first block's pages were all read; five seconds at the most.
        private func awaitPages(_ pages: Range<Int>, of counter: PageCounter) throws {
            let deadline = Monotonic.now() + 5_000_000_000
            while counter.counted[0][pages].contains(0) {
                try #require(Monotonic.now() < deadline, "\(pages) are not all here")
                sched_yield()
            }
        }

        @Test("the background takes at least as long as its limit says")
        func background() throws {
            let rate: UInt64 = 4_000_000
            var pair = Pair()
            pair.vcpus = 0
            pair.pagesWithContent = Set((0..<400).map { [0, $0] })
            pair.maxPostcopyBandwidth = rate
            let outcome = try pair.complete([(name: "low", pages: 600, backing: .anonymous)])
            let source = outcome.source
            let began = source.changes.first { $0.status == .postcopyDevice }?.atNanoseconds
            let nanoseconds = source.endedAtNanoseconds - (try #require(began))
            let bytes = source.progress.sentBytes.postcopy
            // Who it is, and its end.
            #expect(source.progress.urgentBytes <= UInt64(ChannelHello.wireBytes) + 8)
            #expect(bytes > 400 * 4096)
            // What the last write and the arrears may be ahead.
            let ahead = rate / 200 + 2 * 4104 * 5
            #expect(nanoseconds >= (bytes - ahead) * 1_000_000_000 / rate)
        }

        @Test("what shows that a source lives leaves the limit to the pages")
        func pingsAreFree() throws {
            var pair = Pair()
            pair.vcpus = 0
            pair.pagesWithContent = []
            // Ten PINGs a second are 90 bytes.
            pair.silenceMilliseconds = 400
            pair.maxPostcopyBandwidth = 30
            try pair.complete([(name: "low", pages: 5, backing: .anonymous)])
        }

        @Test("a source that its limit keeps silent shows that it lives")
        func pings() throws {
            var options = testOptions(preempt: false, silenceMilliseconds: 400)
            options.maxPostcopyBandwidth = 1
            let guest = try ScriptedDestinationTests.guest()
            let source = try SourceUnderTest(guest, options: options)
            let main = try source.accept()
            main.send(Answers.ready)
            let counter = try PageCounter(guest)
            let reading = try Bounded("main") { counter.readMain(main) }
            #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
            main.send(Answers.pong(0x42))
            let before = counter.pings.load(ordering: .relaxed)
            let deadline = Monotonic.now() + 5_000_000_000
            while counter.pings.load(ordering: .relaxed) < before + 6 {
                try #require(Monotonic.now() < deadline, "no PINGs")
                sched_yield()
            }
            #expect(counter.counted.joined().reduce(0, +) <= 2)
            var answers = Answers(guest)
            for page in 0..<64 { answers.request(0, page: page, of: guest) }
            for page in 0..<7 { answers.request(1, page: page, of: guest) }
            main.send(answers.take())
            try #require(reading.output() != nil)
            #expect(counter.isWhole && counter.areAllOnce)
            main.send(Answers.shut(0))
            try ScriptedDestinationTests.check(source, .completed, "")
        }

        @Test("a link that breaks ends the wait", arguments: [true, false])
        func stops(isGarbage: Bool) throws {
            var options = testOptions(preempt: false)
            options.maxPostcopyBandwidth = 1
            let source = try ScriptedDestinationTests.source(options)
            let main = try source.accept()
            main.send(Answers.ready)
            let counter = try PageCounter(source.guest)
            let reading = try Bounded("main") { counter.readMain(main) }
            #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
            main.send(Answers.pong(0x42))
            if isGarbage { main.send([0, 99, 0, 0]) } else { main.socket.shutDown() }
            let problem = isGarbage ? "broke the protocol" : "the link to the destination "
            try ScriptedDestinationTests.check(source, .postcopyPaused, problem)
            #expect(reading.output() != nil)
        }
    }
}
