import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import Testing
import TestSupport

extension RuntimeLaws.ScriptedDestinationTests {
    struct Requests: CustomTestStringConvertible, Sendable {
        let preempt: Bool
        let backing: RAMBacking
        let pages: Int
        var testDescription: String { "preempt \(preempt), \(pages) \(backing) pages" }
    }

    static let storms: [Requests] = [
        Requests(preempt: true, backing: .anonymous, pages: 4096),
        Requests(preempt: false, backing: .anonymous, pages: 4096),
        Requests(preempt: true, backing: .memfd, pages: 777),
    ]

    static let hugeStorms: [Requests] = [
        Requests(preempt: true, backing: .hugetlb, pages: 8),
        Requests(preempt: false, backing: .hugetlb, pages: 8),
    ]

    @Test("ten thousand requests send each page once", arguments: storms)
    func storm(_ way: Requests) throws { try run(way, requests: 10_000) }

    @Test(
        "requests for huge pages send each once",
        .enabled(if: HugePagePool.canHold(16), "needs 16 free huge pages of 2 MiB"),
        arguments: hugeStorms)
    func hugeStorm(_ way: Requests) throws {
        let pool = HugePagePool(reserving: 16)
        try run(way, requests: 1_000)
        pool.release()
    }

    private func run(_ way: Requests, requests: Int) throws {
        let guest = try PatternGuest(blocks: [
            (name: "low", pages: way.pages, backing: way.backing),
            (name: "high", pages: 33, backing: .anonymous),
        ])
        guest.fill()
        let source = try SourceUnderTest(guest, options: testOptions(preempt: way.preempt))
        let main = try source.accept()
        main.send(Answers.ready)
        let counter = try PageCounter(guest)
        let readingMain = try Bounded("main") { counter.readMain(main) }
        var readingUrgent: Bounded<Void>?
        if way.preempt {
            let urgent = try source.accept()
            readingUrgent = try Bounded("urgent") { counter.readUrgent(urgent) }
        }
        #expect(counter.packageCame.wait(timeoutNanoseconds: 10_000_000_000))
        var answers = Answers(guest)
        var generator = SeededRandom(seed: 7)
        for number in 0..<requests {
            let block = number % 16 == 0 ? 1 : 0
            let count = guest.memory[block].geometry.hostPageCount
            let page = Int.random(in: 0..<count, using: &generator)
            answers.request(block, page: page, of: guest)
            if number % 4 == 0 { answers.request(block, page: page, of: guest) }
            if number % 50 == 0 { main.send(answers.take()) }
        }
        main.send(answers.take() + Answers.pong(0x42))
        try #require(readingMain.output() != nil)
        if let readingUrgent { try #require(readingUrgent.output() != nil) }
        #expect(counter.isWhole)
        #expect(counter.areAllOnce)
        main.send(Answers.shut(0))
        try Self.check(source, .completed, "")
        #expect(source.session.progress.requests >= UInt64(requests))
        #expect(source.session.progress.remainingPages == 0)
    }
}
