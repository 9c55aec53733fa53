import FaultHandling
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "A provider that has no content",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct FailureTests {
    private let patience: UInt64 = 20_000_000_000

    /// Fails the first so many readings of each page.
    private static func failing(_ count: Int, _ ram: GuestRAM) -> TestPages {
        let tries = Mutex([HostPage: Int]())
        return TestPages([ram]) { page throws(PageProviderError) in
            let attempt = tries.withLock { tries in
                tries[page, default: 0] += 1
                return tries[page, default: 0]
            }
            guard attempt > count else {
                throw PageProviderError("attempt \(attempt) of page \(page.page.rawValue)")
            }
            return nil
        }
    }

    @Test("it is asked again, and nobody notices but by the count")
    func again() throws {
        try withMemory(pages: 4) { ram in
            let handler = try FaultHandler(memory: [ram], pages: Self.failing(2, ram))
            try handler.start()
            #expect(try bounded { (0..<4).allSatisfy { ram.holdsContent($0) } } == true)
            let report = handler.stop()
            #expect(report.progress.providerErrors == 8)
            #expect(report.progress.lostPages == 0)
        }
    }

    @Test(
        "when it never has, whoever touches the page is told by a memory error, and so is the embedder",
        .enabled(if: Host.hasPoison, "needs Linux 6.6"), arguments: Host.backings)
    func lost(backing: RAMBacking) throws {
        try withMemory(backing, pages: 3) { ram in
            let watch = try LostMemoryWatch(ram)
            let told = Mutex([LostPage]())
            var options = FaultHandlerOptions()
            options.pauseNanoseconds = 1_000
            options.pageLost = { page in told.withLock { $0.append(page) } }
            let pages = TestPages([ram]) { page throws(PageProviderError) in
                guard page.page.rawValue != 1 else { throw PageProviderError("gone") }
                return nil
            }
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            let touched = try bounded { () -> (Bool, Int) in
                LostMemoryWatch.admit()
                let held = ram.holdsContent(0) && ram.holdsContent(2)
                _ = ram.loadWord(at: ram.geometry.hostPage.bytes)
                return (held, LostMemoryWatch.pagesTouchedByThisThread)
            }
            #expect(touched?.0 == true)
            #expect(touched?.1 == 1)
            let report = handler.stop()
            let address = HostAddress(
                rawValue: ram.address.rawValue + ram.geometry.hostPage.bytes)
            #expect(report.lost.map(\.page) == [page(1)])
            #expect(report.lost.map(\.address) == [address])
            #expect(report.lost.map(\.problem) == ["gone"])
            #expect(report.lost.map(\.outcome) == [.poisoned])
            #expect(told.withLock { $0 } == report.lost)
            #expect(report.progress.lostPages == 1)
            #expect(report.progress.providerErrors == 3)
            #expect(report.progress.missingPages == 0)
            withExtendedLifetime(watch) {}
        }
    }

    @Test("while one page is tried again, others are served")
    func others() throws {
        try withMemory(pages: 32) { ram in
            let isBroken = Atomic<Int>.Box()
            isBroken.value = 1
            var options = FaultHandlerOptions()
            (options.attempts, options.pauseNanoseconds) = (100, 1_000_000)
            let pages = TestPages([ram]) { page throws(PageProviderError) in
                guard page.page.rawValue == 5, isBroken.value == 1 else { return nil }
                throw PageProviderError("not yet")
            }
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            let waiting = try Bounded("toucher") { ram.holdsContent(5) }
            #expect(atLast { handler.progress.providerErrors > 0 })
            #expect(try bounded { (6..<32).allSatisfy { ram.holdsContent($0) } } == true)
            isBroken.value = 0
            #expect(waiting.output() == true)
            handler.stop()
        }
    }

    @Test("a stop does not wait for further attempts")
    func stopped() throws {
        try withMemory(pages: 4) { ram in
            var options = FaultHandlerOptions()
            (options.attempts, options.pauseNanoseconds) = (100, 1_000_000_000)
            let pages = TestPages([ram]) { _ throws(PageProviderError) in
                throw PageProviderError("never")
            }
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            let waiting = try Bounded("toucher") { ram.holdsZeros(0) }
            #expect(atLast { handler.progress.providerErrors > 0 })
            let report = try bounded { handler.stop() }
            #expect(report?.progress.providerErrors == 1)
            #expect(report?.progress.missingPages == 4)
            #expect(waiting.output() == true)
        }
    }
}
