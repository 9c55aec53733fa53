import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport
import Testing

/// A ROM of at most 64 pages beside 100 pages of fixed memory.
private func memory(used: Int, resizable: Bool = true) throws -> [GuestRAM] {
    let low = try BlockGeometry(
        name: "low", lengthBytes: 100 << 12, hostPage: HostMemory.pageSize)
    let rom = try BlockGeometry(
        name: "/rom@etc/x", lengthBytes: resizable ? 64 << 12 : UInt64(used) << 12,
        hostPage: HostMemory.pageSize)
    return [
        try GuestRAM(low, backing: .memfd),
        try GuestRAM(
            rom, backing: .anonymous, usedBytes: resizable ? UInt64(used) << 12 : nil),
    ]
}

private func resize(_ guest: PatternGuest, toPages pages: Int) throws {
    let ram = guest.memory[1]
    let before = ram.usedPages
    try ram.resize(to: UInt64(pages) << 12)
    if pages > before { guest.fill(block: 1, pages: before..<pages) }
}

/// What a guest hears that resizes when it must not.
private final class Refusals: Sendable {
    private let errors = Mutex<[RAMError?]>([])

    var collected: [RAMError?] { errors.withLock { $0 } }

    /// Also touches what is mapped and not used, which must not fault.
    func collect(resizing ram: GuestRAM) {
        #expect(ram.loadWord(at: ram.geometry.lengthBytes - 8) == 0)
        var refusal: RAMError?
        do throws(RAMError) { try ram.resize(to: 4096) } catch { refusal = error }
        let error = refusal
        errors.withLock { $0.append(error) }
    }
}

extension RuntimeLaws {
    @Suite("Blocks that are resized")
    struct ResizeTests {
        struct Course: CustomTestStringConvertible, Sendable {
            /// At the destination, and at the source when the sessions are made.
            let there: Int
            let here: Int
            /// Before the start, and once the blocks are listed.
            let beforeStart: [Int]
            let whileActive: [Int]
            var preempt = true
            var testDescription: String {
                "\(there) pages there; \(here), \(beforeStart), \(whileActive) here"
            }
        }

        static let courses: [Course] = [
            Course(there: 10, here: 10, beforeStart: [], whileActive: []),
            Course(there: 64, here: 1, beforeStart: [], whileActive: []),
            Course(there: 1, here: 10, beforeStart: [40], whileActive: [], preempt: false),
            Course(there: 40, here: 40, beforeStart: [3], whileActive: []),
            Course(there: 10, here: 10, beforeStart: [], whileActive: [64]),
            Course(there: 10, here: 64, beforeStart: [], whileActive: [1], preempt: false),
            Course(there: 10, here: 20, beforeStart: [5], whileActive: [30, 2, 25]),
            Course(there: 10, here: 20, beforeStart: [5, 20], whileActive: [6, 20]),
        ]

        @Test("the destination follows the source's length wherever it changes", arguments: courses)
        func follows(_ course: Course) throws {
            let from = try PatternGuest(memory: memory(used: course.here))
            let to = try PatternGuest(memory: memory(used: course.there))
            from.fill()
            var guests = TwoGuests(from: from, to: to)
            guests.sends.preempt = course.preempt
            let outcome = try guests.migrate(
                beforeStart: {
                    for pages in course.beforeStart { try resize(from, toPages: pages) }
                },
                whileActive: {
                    for pages in course.whileActive { try resize(from, toPages: pages) }
                })
            outcome.expectCompleted()
            let last = (course.whileActive.last ?? course.beforeStart.last) ?? course.here
            #expect(to.memory[1].usedBytes == UInt64(last) << 12)
            let sent = outcome.source.progress
            #expect(sent.totalPages == 100 + last && sent.remainingPages == 0)
            #expect(sent.normalPages + sent.zeroPages == UInt64(100 + last))
            let received = outcome.destination.progress
            #expect(received.totalHostPages == 100 + last && received.missingHostPages == 0)
            // Both go on as their guests like.
            for guest in [from, to] { try guest.memory[1].resize(to: 2 << 12) }
        }

        @Test(
            "huge pages are resized as well",
            .enabled(if: HugePagePool.canHold(8), "needs 8 free huge pages of 2 MiB"))
        func hugePages() throws {
            let pool = HugePagePool(reserving: 8)
            defer { pool.release() }
            let huge = try BlockGeometry(
                name: "huge", lengthBytes: 4 << 21, hostPage: .size2MiB)
            func guest() throws -> PatternGuest {
                try PatternGuest(memory: [
                    try memory(used: 1)[0],
                    try GuestRAM(huge, backing: .hugetlb, usedBytes: 1 << 21),
                ])
            }
            let (from, to) = (try guest(), try guest())
            from.fill()
            let outcome = try TwoGuests(from: from, to: to).migrate(whileActive: {
                #expect(throws: RAMError.self) { try resize(from, toPages: 513) }
                try resize(from, toPages: 1536)
            })
            outcome.expectCompleted()
            #expect(outcome.destination.progress.totalHostPages == 103)
            #expect(to.memory[1].usedPages == 1536)
        }

        @Test("a page beyond the length at the switch is refused when it is asked for")
        func requestOutside() throws {
            let guest = try PatternGuest(memory: memory(used: 10))
            let source = try SourceUnderTest(
                guest, options: testOptions(preempt: false), starts: false)
            let main = try source.accept()
            main.send(Answers.pong(1))
            try resize(guest, toPages: 5)
            source.session.startPostcopy()
            main.send(Answers.pong(2))
            let counter = try PageCounter(guest)
            let reading = try Bounded("main") { counter.readMain(main) }
            #expect(counter.packageCame.wait(timeoutNanoseconds: 5_000_000_000))
            let request = ScriptedDestinationTests.request(
                start: 5 << 12, length: 4096, "/rom@etc/x")
            main.send(request)
            try ScriptedDestinationTests.check(
                source, .postcopyPaused, "outside RAM block '/rom@etc/x'")
            #expect(reading.output() != nil)
            #expect(counter.counted[1][5...].allSatisfy { $0 == 0 })
        }

        @Test("a destination that cannot follow refuses, and the guest runs on with its length")
        func cannotFollow() throws {
            let from = try PatternGuest(memory: memory(used: 10))
            let to = try PatternGuest(memory: memory(used: 10, resizable: false))
            from.fill()
            let outcome = try TwoGuests(from: from, to: to).migrate(whileActive: {
                try resize(from, toPages: 20)
            })
            outcome.expectRefused(
                "'/rom@etc/x' has \(20 << 12) bytes at the source, expected \(10 << 12)",
                "resizable")
            #expect(from.wrongWords() == 0)
            try resize(from, toPages: 30)
        }

        @Test("a destination with less room refuses")
        func lessRoom() throws {
            let from = try PatternGuest(memory: memory(used: 10))
            let small = try BlockGeometry(
                name: "/rom@etc/x", lengthBytes: 8 << 12, hostPage: HostMemory.pageSize)
            let to = try PatternGuest(memory: [
                try memory(used: 1)[0],
                try GuestRAM(small, backing: .anonymous, usedBytes: 4096),
            ])
            let outcome = try TwoGuests(from: from, to: to).migrate()
            outcome.expectRefused("'/rom@etc/x'", "\(10 << 12) bytes", "\(8 << 12) here")
            try to.memory[1].resize(to: 8 << 12)
        }

        @Test("lengths stand still while the guest is stopped, and until every page is there")
        func frozen() throws {
            let (here, there) = (try memory(used: 10), try memory(used: 10))
            let refusals = Refusals()
            let from = try PatternGuest(
                memory: here, whileStopped: { refusals.collect(resizing: here[1]) })
            let to = try PatternGuest(
                memory: there, whileStopped: { refusals.collect(resizing: there[1]) })
            from.fill()
            try TwoGuests(from: from, to: to).migrate().expectCompleted()
            let frozen = RAMError.frozen(block: "/rom@etc/x")
            #expect(refusals.collected == [frozen, frozen])
        }

        @Test("lengths move again when a migration has failed")
        func thawsAfterFailure() throws {
            let from = try PatternGuest(memory: memory(used: 10))
            let to = try PatternGuest(memory: memory(used: 10), refusesDevices: true)
            from.fill()
            try TwoGuests(from: from, to: to).migrate().expectRefused("not my devices")
            for guest in [from, to] { try resize(guest, toPages: 20) }
        }

        @Test("lengths stand still where pages are owed, until the guest is given up")
        func pausedStaysFrozen() throws {
            let from = try PatternGuest(memory: memory(used: 10))
            let to = try PatternGuest(memory: memory(used: 10))
            from.fill()
            // Far behind the package, and far from the end.
            let outcome = try TwoGuests(from: from, to: to, cutAfter: 150_000).migrate()
            #expect(outcome.source.status == .postcopyPaused)
            #expect(outcome.destination.status == .postcopyPaused)
            #expect(throws: RAMError.frozen(block: "/rom@etc/x")) {
                try resize(from, toPages: 20)
            }
            // Given up by then.
            try resize(to, toPages: 20)
        }
    }
}
