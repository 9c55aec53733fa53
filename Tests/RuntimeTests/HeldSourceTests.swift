import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

/// Both ends of ours, and a source whose threads stand at pages that the test withholds.
private struct HeldSource {
    let from: PatternGuest
    let to: PatternGuest
    /// Where the background begins.
    let background: WithheldPage
    /// What a thread of the guest asks for.
    let asked: WithheldPage
    static let askedPage = (block: 1, page: 7)

    let destination: DestinationUnderTest
    let receiving: DestinationSession
    let sending: SourceSession
    private let proxy: CuttingProxy
    private let run: Bounded<SourceReport>

    private static let blocks: Pair.Blocks = [
        (name: "low", pages: 300, backing: .anonymous),
        (name: "high", pages: 20, backing: .anonymous),
    ]
    static let pageCount = 320

    init(preempt: Bool, _ mode: RecoveryOptions.Mode) throws {
        from = try PatternGuest(blocks: Self.blocks, vcpuCount: 0)
        to = try PatternGuest(blocks: Self.blocks, vcpuCount: 0)
        from.fill()
        from.resume()
        background = try WithheldPage(from, block: 0, page: 0)
        asked = try WithheldPage(from, block: Self.askedPage.block, page: Self.askedPage.page)
        var options = recoveringOptions(preempt: preempt, limitMilliseconds: 120_000)
        destination = try DestinationUnderTest(to, options: options)
        receiving = try #require(destination.current)
        proxy = try CuttingProxy(to: destination.address)
        options.recovery.mode = mode
        let session = try SourceSession(guest: from, options: options)
        sending = session
        session.startPostcopy()
        let address = proxy.address
        run = try Bounded("source") { session.run(to: address) }
    }

    func touch() throws -> Toucher {
        #expect(atLast { to.isRunning })
        return try Toucher(to, block: Self.askedPage.block, page: Self.askedPage.page)
    }

    /// Ends the link and waits until the destination knows.
    func cut() {
        proxy.cut()
        #expect(atLast { receiving.progress.status == .postcopyPaused })
    }

    func pauses() -> Bool { atLast { sending.progress.status == .postcopyPaused } }

    /// Waits until nothing of the link is left.
    func waits() -> Bool { atLast { sending.progress.recovery.waitsForSomebody } }

    func expectCompleted(breaks: Int, requests: UInt64) throws {
        let sent = run.output()
        if sent == nil { Issue.record("hangs: \(sending.progress)") }
        let received = destination.report()
        #expect(proxy.stop())
        let (source, destination) = (try #require(sent), try #require(received))
        #expect(source.status == .completed && destination.status == .completed)
        #expect([source.problem, destination.problem].compactMap(\.self) == [])
        #expect(source.breaks.count == breaks && destination.breaks.count == breaks)
        // Each page once: a second copy would have been refused.
        let progress = destination.progress
        #expect(progress.backgroundPages + progress.urgentPages == UInt64(Self.pageCount))
        #expect(progress.requests == requests && source.progress.requests == requests)
        #expect(to.wrongWords() == 0)
    }
}

extension RuntimeLaws.HeldRaceTests {
    @Test(
        "the source holds the page of a request when the link is cut, again and again",
        arguments: [1, 2])
    func betweenRequestAndPage(cuts: Int) throws {
        let held = try HeldSource(preempt: true, .byHand)
        #expect(try held.background.holds())
        let waiter = try held.touch()
        for cut in 1...cuts {
            // From the second link on this stands between RESUME_ACK and the first page.
            #expect(try held.asked.holds())
            held.cut()
            try held.background.give()
            try held.asked.give()
            #expect(held.waits())
            #expect(held.receiving.progress.missingHostPages == HeldSource.pageCount)
            try held.background.withhold()
            if cut < cuts { try held.asked.withhold() }
            #expect(held.sending.recover())
            #expect(try held.background.holds())
        }
        // Nothing but the page that was asked for can have come.
        #expect(waiter.word() == held.from.memory[1].loadWord(at: 7 << 12))
        #expect(atLast { held.receiving.progress.missingHostPages == HeldSource.pageCount - 1 })
        try held.background.give()
        try held.expectCompleted(breaks: cuts, requests: UInt64(1 + cuts))
    }

    @Test("the background sender holds the page of a request when the link is cut")
    func betweenQueueAndPage() throws {
        let held = try HeldSource(preempt: false, .byHand)
        #expect(try held.background.holds())
        let waiter = try held.touch()
        #expect(atLast { held.sending.progress.requests == 1 })
        try held.background.give()
        #expect(try held.asked.holds())
        held.cut()
        #expect(held.pauses())
        try held.asked.give()
        #expect(held.waits())
        #expect(held.sending.recover())
        #expect(waiter.word() == held.from.memory[1].loadWord(at: 7 << 12))
        try held.expectCompleted(breaks: 1, requests: 2)
    }

    @Test("a source is paused by hand while its threads still leave the broken link")
    func handAgainstBreakAtSource() throws {
        let held = try HeldSource(preempt: true, .automatic)
        try held.asked.give()
        #expect(try held.background.holds())
        #expect(atLast { held.to.isRunning })
        held.cut()
        #expect(held.pauses())
        held.sending.pause()
        try held.background.give()
        #expect(held.waits())
        #expect(held.sending.progress.recovery.breaks.map(\.attempts) == [0])
        #expect(held.sending.recover())
        try held.expectCompleted(breaks: 1, requests: 0)
    }
}
