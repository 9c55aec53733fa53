import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport
import Testing

extension RuntimeLaws {
    /// Races that luck brings about otherwise: a thread is held where it matters, and goes on when the
    /// other side has done its part.
    @Suite("Held races")
    struct HeldRaceTests {
        @Test(
            "a bitmap waits for whoever stands between placing a page and its bit",
            arguments: [false, true])
        func betweenPlacingAndBit(urgent: Bool) throws {
            let gate = try Gate()
            var held = try HeldDestination { point in if point == .placed { gate.pass() } }
            let first = try held.open()
            let waiter = try held.touch(0, 13)
            try #expect(first.request() == .init(block: "low", page: 13))
            let record = try held.records(0, [13])
            var side: HeldLink?
            if urgent {
                side = HeldLink(try held.source.connect())
                side?.send(held.source.hello(0, channel: .urgent) + record)
            } else {
                first.send(held.section(record))
            }
            #expect(gate.holds())
            // The kernel has the page, and nobody says so yet.
            try #expect(waiter.word() == held.word(0, 13))
            #expect(held.session.progress.missingHostPages == 18)
            first.cut()
            let second = try held.comeBack(1)
            #expect(held.pauses())
            #expect(second.isSilent())
            gate.open()
            try #expect(second.message() == .answer(.running))
            var received = HeldDestination.received
            received[0].insert(13)
            try #expect(second.bitmaps() == received)
            try held.resume(second)
            try held.finish(on: second, waits: 1, breaks: 1)
        }

        @Test("faults while the link is down are asked for behind RESUME")
        func betweenPauseAndBitmap() throws {
            let gate = try Gate()
            var held = try HeldDestination { point in if point == .placed { gate.pass() } }
            let first = try held.open()
            let served = try held.touch(0, 13)
            try #expect(first.request() == .init(block: "low", page: 13))
            first.send(held.section(try held.records(0, [13])))
            #expect(gate.holds())
            let second = try held.comeBack(1)
            #expect(held.pauses())
            // The threads of the old link are not yet joined.
            let early = try held.touch(1, 13)
            #expect(held.notes(faults: 2))
            gate.open()
            try #expect(second.message() == .answer(.running))
            try #expect(second.bitmaps()[0].contains(13))
            // The link is there and not yet resumed.
            let late = try held.touch(1, 6)
            #expect(held.notes(faults: 3))
            #expect(second.isSilent())
            try held.resume(second)
            try #expect(second.request() == .init(block: "high", page: 6))
            try #expect(second.request() == .init(block: nil, page: 13))
            try held.finish(on: second, waits: 3, breaks: 1)
            for (toucher, place) in [(served, (0, 13)), (early, (1, 13)), (late, (1, 6))] {
                try #expect(toucher.word() == held.word(place.0, place.1))
            }
        }

        @Test("the notice of a page is heard behind the end of the link that brought it")
        func noticeBehindBreak() throws {
            let gate = try Gate()
            var held = try HeldDestination { point in if point == .placed { gate.pass() } }
            let first = try held.open()
            let start = Monotonic.now()
            let urgent = try held.touch(1, 13)
            try #expect(first.request() == .init(block: "high", page: 13))
            let background = try held.touch(0, 13)
            try #expect(first.request() == .init(block: "low", page: 13))
            let side = HeldLink(try held.source.connect())
            side.send(held.source.hello(0, channel: .urgent) + (try held.records(1, [13])))
            // The thread that hears notices is held.
            #expect(gate.holds())
            first.send(held.section(try held.records(0, [13])))
            #expect(atLast { held.session.progress.missingHostPages == 17 })
            let end = Monotonic.now()
            first.cut()
            let second = try held.comeBack(1)
            #expect(held.pauses())
            // The stream's thread has nothing left to do, and is joined meanwhile.
            #expect(second.isSilent())
            gate.open()
            try #expect(second.message() == .answer(.running))
            var received = HeldDestination.received
            received[0].insert(13)
            received[1].insert(13)
            try #expect(second.bitmaps() == received)
            try held.resume(second)
            let report = try held.finish(on: second, waits: 2, breaks: 1)
            // A wait of which nobody hears that it is over lasts to the end of the migration.
            let longest = try #require(report.blocktime).latency.maxNanoseconds
            #expect(longest <= end - start)
            try #expect(urgent.word() == held.word(1, 13))
            try #expect(background.word() == held.word(0, 13))
        }

        @Test("a fault while outstanding requests are written is asked for once, behind them")
        func betweenResumeAndRequest() throws {
            let gate = try Gate()
            var held = try HeldDestination { point in if point == .resuming { gate.pass() } }
            let first = try held.open()
            var touchers = [try held.touch(1, 6)]
            try #expect(first.request() == .init(block: "high", page: 6))
            touchers.append(try held.touch(0, 13))
            try #expect(first.request() == .init(block: "low", page: 13))
            first.cut()
            #expect(held.pauses())
            let second = try held.comeBack(1)
            try #expect(second.message() == .answer(.running))
            try #expect(second.bitmaps() == HeldDestination.received)
            second.send(HeldDestination.resume)
            #expect(gate.holds())
            // One page that is new, and one that is among those that are being written.
            touchers += [try held.touch(1, 13), try held.touch(0, 13)]
            #expect(touchers.allSatisfy { $0.sleeps() })
            gate.open()
            try #expect(second.message() == Message(type: 6, payload: [0, 0, 0, 1]))
            // Its block was the last to be named on the old link.
            try #expect(second.request() == .init(block: "low", page: 13))
            try #expect(second.request() == .init(block: "high", page: 6))
            try #expect(second.request() == .init(block: nil, page: 13))
            #expect(held.notes(faults: 4))
            try held.finish(on: second, waits: 4, breaks: 1)
            for toucher in touchers { #expect(toucher.word() != nil) }
        }

        @Test("a link that breaks behind RESUME_ACK is asked the same again on the next")
        func behindAcknowledgement() throws {
            var held = try HeldDestination()
            let first = try held.open()
            let waiter = try held.touch(0, 13)
            try #expect(first.request() == .init(block: "low", page: 13))
            first.cut()
            for attempt in 1...3 as ClosedRange<UInt32> {
                #expect(held.pauses())
                let link = try held.comeBack(attempt)
                try #expect(link.message() == .answer(.running))
                try #expect(link.bitmaps() == HeldDestination.received)
                try held.resume(link)
                try #expect(link.request() == .init(block: "low", page: 13))
                guard attempt == 3 else {
                    link.cut()
                    continue
                }
                try held.finish(on: link, waits: 1, breaks: 3)
                try #expect(waiter.word() == held.word(0, 13))
            }
        }

        enum Noticing: CaseIterable, Sendable {
            /// The stream's thread has seen the break before somebody pauses.
            case breakFirst
            case handFirst
            /// The source is at the door already.
            case sourceBack
            /// It is, behind a break that the stream's thread has seen, and nobody pauses.
            case breakAndSource
        }

        @Test("paused by hand while a break is being noticed", arguments: Noticing.allCases)
        func handAgainstBreak(_ noticing: Noticing) throws {
            let gate = try Gate()
            var held = try HeldDestination()
            // The control thread starts the guest.
            held.guest.onResume { gate.pass() }
            // Whom the door knows by the time its thread is held.
            var knocking = noticing == .breakAndSource ? HeldLink(try held.source.connect()) : nil
            let first = try held.open()
            #expect(gate.holds())
            var isHeld = false
            switch noticing {
            case .breakFirst:
                first.cut()
                #expect(held.pauses())
                isHeld = held.session.pause()
            case .handFirst:
                isHeld = held.session.pause()
                first.cut()
                #expect(held.pauses())
            case .sourceBack:
                isHeld = held.session.pause()
                knocking = try held.knock(1)
            case .breakAndSource:
                first.cut()
                #expect(held.pauses())
                knocking?.send(held.source.hello(1))
            }
            #expect(isHeld == (noticing != .breakAndSource))
            gate.open()
            var attempt: UInt32 = 1
            if isHeld {
                let refused = try knocking ?? held.knock(1)
                try #expect(refused.message().text == "the destination was paused by hand")
                try #expect(refused.message() == .answer(.busy))
                #expect(atLast { held.session.progress.recovery.waitsForSomebody })
                attempt = 2
                #expect(atLast { held.session.recover() })
            }
            // What was wished may be heard behind the first who knocks.
            var link = try isHeld ? held.knock(attempt) : knocking ?? held.knock(attempt)
            while try link.message() != .answer(.running) {
                try #require(isHeld && attempt < 1_000)
                attempt += 1
                link = try held.knock(attempt)
            }
            link.send(held.askBitmaps)
            try #expect(link.bitmaps() == HeldDestination.received)
            try held.resume(link)
            try held.finish(on: link, waits: 0, breaks: 1)
        }

        enum Loaded: CaseIterable, Sendable {
            case whilePaused
            case beforeResume
            case afterResume
        }

        @Test("devices still load when the link breaks and comes back", arguments: Loaded.allCases)
        func loading(_ loaded: Loaded) throws {
            let gate = try Gate()
            var held = try HeldDestination(whileLoading: { gate.pass() })
            let first = try held.open(upTo: Answers.pong(2))
            #expect(gate.holds())
            first.cut()
            #expect(held.pauses())
            if loaded == .whilePaused { gate.open() }
            let second = try held.comeBack(1)
            try #expect(second.message() == .answer(.waiting))
            try #expect(second.bitmaps() == HeldDestination.received)
            if loaded == .beforeResume { gate.open() }
            #expect(!held.guest.isRunning)
            var link = second
            try held.resume(second)
            if loaded == .afterResume {
                second.cut()
                #expect(held.pauses())
                link = try held.comeBack(2)
                try #expect(link.message() == .answer(.waiting))
                try #expect(link.bitmaps() == HeldDestination.received)
                try held.resume(link)
                #expect(!held.guest.isRunning)
                gate.open()
            }
            for value in [3, 0x42] as [UInt8] {
                try #expect(link.message() == Message(type: 2, payload: [0, 0, 0, value]))
            }
            #expect(atLast { held.guest.isRunning })
            try held.finish(on: link, waits: 0, breaks: loaded == .afterResume ? 2 : 1)
        }
    }
}
