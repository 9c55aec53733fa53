import Postcopy
import Testing

@testable import PostcopyCommand
@testable import PostcopyRuntime

/// What people are told of a link that broke.
@Suite struct PauseWatchTests {
    private static let second: UInt64 = 1_000_000_000

    private static func paused(
        _ side: Standing.Side, waits: Bool = false, breaks: Int = 1
    ) -> Standing {
        var recovery = RecoveryProgress()
        recovery.breaks = (0..<breaks).map { index in
            LinkBreak(
                problem: "reset by peer", heardAtNanoseconds: 1,
                pausedAtNanoseconds: UInt64(index + 1) * second)
        }
        recovery.breakCount = breaks
        recovery.waitsForSomebody = waits
        if side == .destination {
            recovery.missing = [
                MissingPages(block: "pc.ram", hostPages: 3, bytes: 12288),
                MissingPages(block: "vga", hostPages: 1, bytes: 4096),
            ]
        }
        return Standing(
            side: side, status: .postcopyPaused, recovery: recovery, owedBytes: 1 << 20)
    }

    private static func watch(_ mode: RecoveryOptions.Mode = .automatic) -> PauseWatch {
        PauseWatch(mode: mode, name: "--pid 7")
    }

    @Test("a break is told once, with why and what is missing, by block")
    func told() throws {
        var watch = Self.watch()
        let standing = Self.paused(.destination)
        let lines = watch.lines(standing, at: Self.second)
        #expect(lines.count == 1)
        let line = try #require(lines.first)
        #expect(line.hasPrefix(PauseWatch.prefix) && line.contains("reset by peer"))
        #expect(line.contains("'pc.ram' misses 3 pages") && line.contains("'vga' misses 1 page,"))
        #expect(watch.lines(standing, at: 2 * Self.second).isEmpty)
        var source = Self.watch()
        let owed = source.lines(Self.paused(.source), at: Self.second).first ?? ""
        #expect(owed.contains("1.00 MiB") && owed.contains("only at the source"))
    }

    @Test("the return is told with how long it took, once for each break, also two at a look")
    func back() {
        var watch = Self.watch()
        var standing = Self.paused(.source, breaks: 2)
        standing.recovery.breaks[0].resumedAtNanoseconds = Self.second + 250_000_000
        standing.recovery.breaks[0].attempts = 3
        let lines = watch.lines(standing, at: 2 * Self.second)
        #expect(lines.count == 3)
        #expect(lines[1].contains("back after 250 ms, 3 attempts"), "\(lines)")
        standing.recovery.breaks[1].resumedAtNanoseconds = 3 * Self.second
        standing.status = .postcopyActive
        #expect(watch.lines(standing, at: 3 * Self.second).count == 1)
        #expect(watch.lines(standing, at: 300 * Self.second).isEmpty, "nothing is down")
    }

    @Test("who is waited for is told of each break, also of one that came between two looks")
    func waitsAgain() {
        var watch = Self.watch()
        #expect(watch.lines(Self.paused(.source, waits: true), at: Self.second).count == 2)
        var standing = Self.paused(.source, waits: true, breaks: 2)
        standing.recovery.breaks[0].resumedAtNanoseconds = 2 * Self.second
        let lines = watch.lines(standing, at: 2 * Self.second)
        #expect(lines.contains { $0.contains("waits for somebody") }, "\(lines)")
        #expect(watch.lines(standing, at: 3 * Self.second).isEmpty)
    }

    @Test("each break and return is told once, also where only some of them are kept")
    func endless() {
        var watch = Self.watch()
        var standing = Self.paused(.source, breaks: 0)
        for number in 1...70 as ClosedRange<UInt64> {
            let instant = number * 10 * Self.second
            standing.recovery.note(
                LinkBreak(
                    problem: "break \(number);", heardAtNanoseconds: 1,
                    pausedAtNanoseconds: instant))
            standing.status = .postcopyPaused
            let broke = watch.lines(standing, at: instant)
            #expect(broke.count == 1 && broke[0].contains("break \(number);"), "\(broke)")
            #expect(watch.lines(standing, at: instant + 1).isEmpty)
            if number == 70 { break }
            let last = standing.recovery.breaks.count - 1
            standing.recovery.breaks[last].resumedAtNanoseconds = instant + Self.second
            standing.status = .postcopyActive
            let back = watch.lines(standing, at: instant + Self.second)
            #expect(back.count == 1 && back[0].contains("back after 1.00 s"), "\(back)")
        }
        #expect(standing.recovery.breakCount == 70 && standing.recovery.breaks.count == 64)
        let reminder = watch.lines(standing, at: 740 * Self.second)
        #expect(reminder.count == 1 && reminder[0].contains("down for 40"), "\(reminder)")
    }

    @Test("a break whose recovery broke as well came back with the next one")
    func failedRecovery() {
        var watch = Self.watch()
        var standing = Self.paused(.source, breaks: 2)
        #expect(watch.lines(standing, at: Self.second).count == 2)
        standing.recovery.breaks[1].resumedAtNanoseconds = 3 * Self.second
        #expect(watch.lines(standing, at: 3 * Self.second).count == 1)
        standing.recovery.breaks[0].resumedAtNanoseconds = 3 * Self.second
        #expect(watch.lines(standing, at: 3 * Self.second).isEmpty)
    }

    @Test(
        "who waits for somebody says so with what to type, and again every 30 s",
        arguments: Standing.Side.allCases)
    func waits(side: Standing.Side) {
        var watch = Self.watch()
        _ = watch.lines(Self.paused(side), at: Self.second)
        var standing = Self.paused(side, waits: true)
        standing.recovery.refusal = "no route"
        let said = watch.lines(standing, at: 2 * Self.second)
        #expect(said.count == 1)
        for word in ["'postcopy recover --pid 7'", "'postcopy abandon --pid 7'", "no route"] {
            #expect(said.first?.contains(word) == true, "\(said)")
        }
        var reminders: [UInt64] = []
        for second in 3...100 as ClosedRange<UInt64>
        where !watch.lines(standing, at: second * Self.second).isEmpty {
            reminders.append(second)
        }
        #expect(reminders == [32, 62, 92])
        standing.recovery.waitsForSomebody = false
        _ = watch.lines(standing, at: 101 * Self.second)
        standing.recovery.waitsForSomebody = true
        #expect(watch.lines(standing, at: 102 * Self.second).count == 1, "the time is up again")
    }

    @Test("a QEMU that comes back by its own word is told of, where that is enough")
    func ofQEMU() throws {
        let standing = Self.paused(.destination, waits: true)
        var watch = PauseWatch(mode: .automatic, name: "--pid 7", isSourceQEMU: true)
        let line = try #require(watch.lines(standing, at: Self.second).last)
        #expect(line.contains("'migrate' with 'resume'") && line.contains("abandon"), "\(line)")
        var byHand = PauseWatch(mode: .byHand, name: "--pid 7", isSourceQEMU: true)
        let other = try #require(byHand.lines(standing, at: Self.second).last)
        #expect(other.contains("'postcopy recover --pid 7' lets"), "\(other)")
    }

    @Test("whose guest never ran, and who tells that to its source, says so once")
    func farewell() throws {
        var watch = Self.watch()
        var standing = Standing(
            side: .destination, status: .failed, recovery: RecoveryProgress(), owedBytes: 0)
        #expect(watch.lines(standing, at: Self.second).isEmpty)
        standing.recovery.farewell = Farewell(
            problem: "reset by peer", untilNanoseconds: 41 * Self.second)
        let line = try #require(watch.lines(standing, at: Self.second).first)
        for word in ["reset by peer", "never ran", "40", "interrupt"] {
            #expect(line.contains(word), "\(line)")
        }
        #expect(watch.lines(standing, at: 50 * Self.second).isEmpty)
    }

    @Test("nothing is said where nothing is recovered")
    func none() {
        var watch = Self.watch(.none)
        #expect(watch.lines(Self.paused(.source), at: 100 * Self.second).isEmpty)
    }
}
