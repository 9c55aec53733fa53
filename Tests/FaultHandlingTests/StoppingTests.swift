import CShims
import FaultHandling
import Glibc
import LinuxKernel
import MigrationCore
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "The end of a fault handler",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct StoppingTests {
    @Test("whoever waits goes on, even while the provider does not", arguments: Host.backings)
    func waiters(backing: RAMBacking) throws {
        try withMemory(backing, pages: 8) { ram in
            let stuck = try Barrier()
            let pages = TestPages([ram]) { _ in
                stuck.pass()
                return nil
            }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            let readers = try (0..<8).map { index in
                try Bounded("toucher") { ram.holdsZeros(index) }
            }
            #expect(stuck.isReached())
            let stopping = try Bounded("stopper") { handler.stop() }
            for reader in readers { #expect(reader.output() == true) }
            #expect(handler.waitUntilEnded(timeoutNanoseconds: 0))
            stuck.open()
            let report = try #require(stopping.output())
            #expect(report.progress.missingPages == 8)
            #expect(report.progress.urgentPages == 0)
            #expect(report.latency.count == 0)
        }
    }

    @Test(
        "missing pages can be lost rather than zeros", .enabled(if: Host.hasPoison),
        arguments: Host.backings)
    func lost(backing: RAMBacking) throws {
        try withMemory(backing, pages: 4) { ram in
            let watch = try LostMemoryWatch(ram)
            var options = FaultHandlerOptions()
            options.missingAtStop = .lost
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: options)
            try handler.start()
            #expect(try bounded { ram.holdsContent(1) } == true)
            handler.stop()
            let touched = try bounded { () -> Int in
                LostMemoryWatch.admit()
                for page in 0..<4 {
                    _ = ram.loadWord(at: UInt64(page) * ram.geometry.hostPage.bytes)
                }
                return LostMemoryWatch.pagesTouchedByThisThread
            }
            #expect(touched == 3)
            withExtendedLifetime(watch) {}
        }
    }

    @Test(
        "of a cache the pages are lost that were given up as well", .enabled(if: Host.hasPoison))
    func lostCache() throws {
        try withMemory(pages: 4) { ram in
            let watch = try LostMemoryWatch(ram)
            var options = FaultHandlerOptions()
            options.missingAtStop = .lost
            options.removedPagesAreZero = false
            let handler = try FaultHandler(
                memory: [ram], pages: TestPages([ram]), options: options)
            try handler.start()
            let right = try bounded {
                ram.holdsContent(1) && ram.holdsContent(2) && (try? ram.drop(pages: 1..<2)) != nil
            }
            #expect(right == true)
            #expect(handler.stop().missingAtStop == .poisoned)
            let touched = try bounded { () -> [Int] in
                LostMemoryWatch.admit()
                return [2, 1, 3].map { page in
                    _ = ram.loadWord(at: UInt64(page) * 4096)
                    return LostMemoryWatch.pagesTouchedByThisThread
                }
            }
            #expect(touched == [0, 1, 2])
            withExtendedLifetime(watch) {}
        }
    }

    @Test("it is stopped from any thread, any number of times, and says the same")
    func often() throws {
        try withMemory(pages: 16) { ram in
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            try handler.start()
            #expect(try bounded { ram.holdsContent(3) } == true)
            let stoppers = try (0..<8).map { _ in try Bounded("stopper") { handler.stop() } }
            let reports = stoppers.compactMap { $0.output() }
            #expect(reports.count == 8)
            #expect(Set(reports.map(\.progress.faults)) == [1])
            #expect(reports.allSatisfy { $0.trace.pages == [page(3)] })
            #expect(handler.stop().progress == reports[0].progress)
        }
    }

    @Test("one that is let go without a stop lets everybody go on")
    func letGo() throws {
        try withMemory(pages: 4) { ram in
            let held = try Barrier()
            let pages = TestPages([ram]) { _ in
                held.pass()
                return nil
            }
            var handler: FaultHandler? = try FaultHandler(memory: [ram], pages: pages)
            try handler?.start()
            let waiting = try Bounded("toucher") { ram.holdsZeros(2) }
            #expect(held.isReached())
            let handover = Handover(try #require(handler))
            handler = nil
            let ending = try Bounded("ender") { _ = handover.take() }
            #expect(waiting.output() == true)
            held.open()
            #expect(ending.output() != nil)
            #expect(ram.holdsZeros(3), "unregistered")
        }
    }

    @Test("a callback may let go of the last reference")
    func letGoByCallback() throws {
        try withMemory(pages: 4) { ram in
            let last = Mutex<FaultHandler?>(nil)
            let done = try EventFlag()
            var options = FaultHandlerOptions()
            options.attempts = 1
            options.pageLost = { _ in
                last.withLock { $0 = nil }
                done.raise()
            }
            let pages = TestPages([ram]) { _ throws(PageProviderError) in
                throw PageProviderError("never")
            }
            // Zeros at the end: with a kernel that knows lost pages this one is one.
            let watch = try LostMemoryWatch(ram)
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            last.withLock { $0 = handler }
            let waiting = try letGo(handler, touching: ram)
            #expect(done.wait(timeoutNanoseconds: 20_000_000_000))
            #expect(waiting.output() == true)
            withExtendedLifetime(watch) {}
        }
    }

    /// The reference ends here.
    private func letGo(
        _ handler: consuming FaultHandler, touching ram: GuestRAM
    ) throws -> Bounded<Bool> {
        try Bounded("toucher") {
            LostMemoryWatch.admit()
            return ram.holdsZeros(1)
        }
    }

    @Test("one that was never started stops at once, and never serves")
    func neverStarted() throws {
        try withMemory(pages: 4) { ram in
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            let report = handler.stop()
            #expect(report.progress.state == .stopped)
            #expect(report.progress.missingPages == 4)
            #expect(throws: FaultHandlerError.stopped) { try handler.start() }
            #expect(ram.holdsZeros(0))
        }
    }

    @Test("memory can be served again by another handler")
    func another() throws {
        try withMemory(pages: 4) { ram in
            for first in [0, 2] {
                let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
                try handler.start()
                #expect(throws: FaultHandlerError.alreadyStarted) { try handler.start() }
                let second = try FaultHandler(memory: [ram], pages: TestPages([ram]))
                #expect(throws: FaultHandlerError.memoryInUse(block: "block 0")) {
                    try second.start()
                }
                let right = try bounded { ram.holdsContent(first) && ram.holdsContent(first + 1) }
                #expect(right == true)
                if first == 0 {
                    // Stopped with everything here, so that nothing of it is zeros.
                    handler.fill()
                    #expect(handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000))
                }
                handler.stop()
            }
        }
    }

    @Test("one that is refused changes nothing of memory that another has, and may start later")
    func refusedStart() throws {
        let geometry = try BlockGeometry(
            name: "served", lengthBytes: 4 << 12, hostPage: HostMemory.pageSize)
        let beside = try GuestRAM(
            BlockGeometry(name: "beside", lengthBytes: 4 << 12, hostPage: HostMemory.pageSize),
            backing: .anonymous, usedBytes: 4 << 12)
        let ram = try GuestRAM(geometry, backing: .anonymous, usedBytes: 4 << 12)
        let first = try FaultHandler(memory: [ram], pages: TestPages([ram]))
        let second = try FaultHandler(memory: [beside, ram], pages: TestPages([beside, ram]))
        try first.start()
        #expect(throws: FaultHandlerError.memoryInUse(block: "served")) { try second.start() }
        // Counted on, as before.
        #expect(throws: RAMError.frozen(block: "served")) { try ram.resize(to: 2 << 12) }
        try beside.resize(to: 2 << 12)
        try beside.resize(to: 4 << 12)
        #expect(try bounded { ram.holdsContent(3) } == true)
        first.stop()
        try second.start()
        #expect(try bounded { beside.holdsContent(3) && ram.holdsContent(1, block: 1) } == true)
        second.stop()
        try ram.resize(to: 2 << 12)
    }

    @Test("memory that a userfaultfd of the program's own has is refused, and stays as it is")
    func registeredByOthers() throws {
        try withMemory(pages: 512) { ram in
            ram.avoidHugePages()
            let other = try RawUserfaultfd.hand(
                over: [ram], features: [PC_UFFD_FEATURE_THREAD_ID])
            let before = mappingFlags(at: ram.address.rawValue)
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            #expect(throws: FaultHandlerError.registering(block: "block 0", .busy)) {
                try handler.start()
            }
            let after = mappingFlags(at: ram.address.rawValue)
            #expect(after == before && !after.isEmpty)
            _ = consume other
        }
    }

    @Test("threads and descriptors are gone afterwards")
    func leaks() async {
        await #expect(processExitsWith: .success) {
            func count(_ folder: String) -> Int {
                guard let stream = unsafe opendir(folder) else { return 0 }
                defer { unsafe closedir(stream) }
                var count = 0
                while unsafe readdir(stream) != nil { count += 1 }
                return count
            }
            func serve() throws {
                try withMemory(pages: 4) { ram in
                    let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
                    try handler.start()
                    precondition(ram.holdsContent(0))
                    handler.stop()
                }
            }
            try serve()
            let before = (count("/proc/self/task"), count("/proc/self/fd"))
            for _ in 0..<20 { try serve() }
            let after = (count("/proc/self/task"), count("/proc/self/fd"))
            guard before == after else { fatalError("\(before) became \(after)") }
        }
    }

    @Test("a provider that stops its own handler is told so by a trap")
    func stopByProvider() async {
        await #expect(processExitsWith: .failure) {
            signal(SIGILL, SIG_DFL)
            signal(SIGTRAP, SIG_DFL)
            try withMemory(pages: 1) { ram in
                let own = Mutex<FaultHandler?>(nil)
                let pages = TestPages([ram]) { _ in
                    own.withLock { $0 }?.stop()
                    return nil
                }
                let handler = try FaultHandler(memory: [ram], pages: pages)
                own.withLock { $0 = handler }
                try handler.start()
                _ = ram.loadWord(at: 0)
            }
        }
    }
}
