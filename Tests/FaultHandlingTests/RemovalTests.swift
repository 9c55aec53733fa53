import FaultHandling
import LinuxKernel
import MigrationCore
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "Pages that are given up while they are served",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct RemovalTests {
    private let patience: UInt64 = 20_000_000_000

    @Test("they read as zeros from then on, placed before or not", arguments: Host.backings)
    func zeros(backing: RAMBacking) throws {
        try withMemory(backing, pages: 8) { ram in
            let pages = TestPages([ram])
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            #expect(try bounded { (0..<4).allSatisfy { ram.holdsContent($0) } } == true)
            // Two that are here, two that never came.
            #expect(try bounded { (try? ram.drop(pages: 2..<6)) != nil } == true)
            let held = try bounded { (0..<8).map { ram.holdsZeros($0) } }
            #expect(held == [false, false, true, true, true, true, false, false])
            #expect(try bounded { [0, 1, 6, 7].allSatisfy { ram.holdsContent($0) } } == true)
            let report = handler.stop()
            let targetPages = UInt64(4 * ram.geometry.hostPage.targetPages)
            #expect(report.progress.removedPages == targetPages)
            #expect(report.progress.missingPages == 0)
            #expect(!pages.record.reads.contains { (4..<6).contains($0.page.rawValue) })
        }
    }

    @Test("what is written to them afterwards stays")
    func writtenAgain() throws {
        try withMemory(pages: 4) { ram in
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            try handler.start()
            let word = try bounded { () -> UInt64 in
                try? ram.drop(pages: 1..<2)
                ram.storeWord(5, at: 4096)
                return ram.loadWord(at: 4096)
            }
            #expect(word == 5)
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            #expect(ram.loadWord(at: 4096) == 5)
            handler.stop()
        }
    }

    @Test("fill leaves them out")
    func filled() throws {
        try withMemory(pages: 64) { ram in
            let pages = TestPages([ram])
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            #expect(try bounded { (try? ram.drop(pages: 10..<50)) != nil } == true)
            #expect(atLast { handler.progress.missingPages == 24 })
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            #expect(pages.record.reads.count == 24)
            #expect(mappingBytes("Rss", at: ram.address.rawValue) == 24 << 12)
            handler.stop()
        }
    }

    @Test("as a cache: given up without notice, they have their content again")
    func cache() throws {
        try withMemory(pages: 8) { ram in
            let pages = TestPages([ram])
            var options = FaultHandlerOptions()
            options.removedPagesAreZero = false
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            for _ in 0..<20 {
                let right = try bounded { () -> Bool in
                    guard (0..<8).allSatisfy({ ram.holdsContent($0) }) else { return false }
                    return (try? ram.drop(pages: 0..<8)) != nil
                }
                #expect(right == true)
            }
            let report = handler.stop()
            #expect(pages.record.reads.count == 160)
            #expect(report.progress.removedPages == 0)
        }
    }

    @Test(
        "content that was read before does not come back afterwards", arguments: Host.backings,
        [false, true])
    func heldWorker(backing: RAMBacking, inBackground: Bool) throws {
        try withMemory(backing, pages: 4) { ram in
            let held = try Barrier()
            var options = FaultHandlerOptions()
            options.backgroundBytes = 4096
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: options
            ) { point in
                if case .contentRead(let read) = point, read == page(2) { held.pass() }
            }
            try handler.start()
            var waiting: Bounded<Bool>?
            if inBackground {
                handler.fill()
            } else {
                waiting = try Bounded("toucher") { ram.holdsZeros(2) }
            }
            #expect(held.isReached())
            #expect(try bounded { (try? ram.drop(pages: 2..<3)) != nil } == true)
            held.open()
            if let waiting { #expect(waiting.output() == true) }
            if inBackground { #expect(handler.waitUntilFilled(timeoutNanoseconds: patience)) }
            #expect(try bounded { ram.holdsZeros(2) } == true)
            #expect(try bounded { ram.holdsContent(1) && ram.holdsContent(3) } == true)
            handler.stop()
        }
    }

    @Test(
        "who gives a page up while it is being placed waits until that is done",
        arguments: Host.backings)
    func heldPlacing(backing: RAMBacking) throws {
        try withMemory(backing, pages: 4) { ram in
            let held = try Barrier()
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: FaultHandlerOptions()
            ) { point in
                if case .placing(let placed) = point, placed == page(2) { held.pass() }
            }
            try handler.start()
            let waiting = try Bounded("toucher") { ram.loadWord(at: 0) }
            #expect(waiting.output() == TestPages.word(0, 0))
            let touching = try Bounded("toucher") {
                ram.loadWord(at: 2 * ram.geometry.hostPage.bytes)
            }
            #expect(held.isReached())
            let isGone = try EventFlag()
            let dropping = try Bounded("giver") {
                defer { isGone.raise() }
                return (try? ram.drop(pages: 2..<3)) != nil
            }
            #expect(atLast { isGivingUpPages("giver") })
            // A tenth of a second is long for a notice that somebody is free to read.
            #expect(!isGone.wait(timeoutNanoseconds: 100_000_000))
            held.open()
            #expect(dropping.output() == true)
            #expect(touching.output() != nil)
            #expect(try bounded { ram.holdsZeros(2) } == true)
            handler.stop()
        }
    }

    @Test("one worker alone meets an unread event and goes on")
    func ownEvent() throws {
        try withMemory(pages: 4) { ram in
            let held = try Barrier()
            var options = FaultHandlerOptions()
            options.workers = 1
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: options
            ) { point in
                if case .contentRead = point { held.pass() }
            }
            try handler.start()
            let waiting = try Bounded("toucher") { ram.holdsContent(0) }
            #expect(held.isReached())
            // Nobody is free to read this one.
            let dropping = try Bounded("alone") { (try? ram.drop(pages: 2..<3)) != nil }
            #expect(atLast { isGivingUpPages("alone") })
            held.open()
            #expect(waiting.output() == true)
            #expect(dropping.output() == true)
            #expect(handler.stop().progress.interruptedPlacings > 0)
        }
    }

    /// What a page may hold, as the one who gives pages up knows it.
    private final class Model: Sendable {
        /// By page: 0 content, 1 on its way out, 2 zeros.
        let states: [Atomic<Int>.Box]

        init(pages: Int) { states = (0..<pages).map { _ in Atomic<Int>.Box() } }
    }

    @Test(
        "touching, filling and giving up at random: no page is ever wrong", arguments: 0..<6)
    func hammer(seed: UInt64) throws {
        let count = 2_000
        let backing: RAMBacking = seed % 2 == 0 ? .anonymous : .memfd
        try withMemory(backing, pages: count) { ram in
            var options = FaultHandlerOptions()
            options.workers = 1 + Int(seed % 3)
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: options)
            let model = Model(pages: count)
            try handler.start()
            handler.fill()
            let droppers = try (0..<2).map { part in
                try Bounded("dropper") {
                    var random = SeededRandom(seed: seed * 10 + UInt64(part))
                    for _ in 0..<400 {
                        // Each has pages of its own, so that the model is one writer's.
                        let first = part * count / 2 + random.below(count / 2 - 4)
                        let range = first..<first + 1 + random.below(3)
                        for page in range where model.states[page].value == 0 {
                            model.states[page].value = 1
                        }
                        guard (try? ram.drop(pages: range)) != nil else { return false }
                        for page in range { model.states[page].value = 2 }
                    }
                    return true
                }
            }
            let touchers = try (0..<3).map { part in
                try Bounded("toucher") {
                    var random = SeededRandom(seed: seed * 10 + 5 + UInt64(part))
                    return (0..<4_000).count { _ in
                        let page = random.below(count)
                        let before = model.states[page].value
                        let word = ram.loadWord(at: UInt64(page) << 12)
                        let after = model.states[page].value
                        let isContent = word == TestPages.word(0, UInt64(page) << 12)
                        return before == 2 ? word != 0 : !isContent && (word != 0 || after == 0)
                    }
                }
            }
            for dropper in droppers { #expect(dropper.output(withinSeconds: 60) == true) }
            for toucher in touchers { #expect(toucher.output(withinSeconds: 60) == 0) }
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            let wrong = try bounded {
                (0..<count).count { page in
                    model.states[page].value == 2
                        ? !ram.holdsZeros(page) : !ram.holdsContent(page)
                }
            }
            #expect(wrong == 0)
            handler.stop()
        }
    }
}

extension Atomic<Int> {
    /// An atomic number that can stand in an array.
    final class Box: Sendable {
        private let atomic = Atomic(0)

        var value: Int {
            get { atomic.load(ordering: .sequentiallyConsistent) }
            set { atomic.store(newValue, ordering: .sequentiallyConsistent) }
        }
    }
}

/// Whether a thread of this process that has this name waits in `madvise` (28 on x86_64, 233 elsewhere).
private func isGivingUpPages(_ name: String) -> Bool {
    tasks().contains { task in
        guard Host.text("/proc/self/task/\(task)/comm") == "\(name)\n" else { return false }
        let call = Host.text("/proc/self/task/\(task)/syscall").prefix { $0 != " " }
        return call == "28" || call == "233"
    }
}
