import CShims
import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import TestSupport
import Testing

@Suite(
    "Memory that is handed over within one process",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct HandedOverTests {
    private static let plain = [PC_UFFD_FEATURE_THREAD_ID]
    private static let removals = [
        PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_EVENT_REMOVE, PC_UFFD_FEATURE_EVENT_UNMAP,
    ]

    @Test("it is served as another process's is", arguments: Host.backings)
    func sameProcess(backing: RAMBacking) throws {
        try withMemory(backing, pages: 6) { ram in
            let memory = try RawUserfaultfd.hand(over: [ram], features: Self.removals)
            let handler = try FaultHandler(
                serving: memory, pages: TestPages([ram]), options: FaultHandlerOptions())
            try handler.start()
            #expect(try bounded { ram.holdsContent(1) } == true)
            #expect(try bounded { (try? ram.drop(pages: 1..<3)) != nil } == true)
            let zeros = try bounded { (0..<6).map { ram.holdsZeros($0) } }
            #expect(zeros == [false, true, true, false, false, false])
            handler.stop()
        }
    }

    @Test(
        "what is given up while the handler stops is zeros, and not lost",
        .enabled(if: Host.hasPoison))
    func removedAtStop() throws {
        try withMemory(pages: 16) { ram in
            var own: Int32 = -1
            // Whoever loses a page maps another there, which is not to be told.
            let features = [PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_EVENT_REMOVE]
            let memory = try RawUserfaultfd.hand(over: [ram], features: features) {
                own = dup($0)
            }
            defer { close(own) }
            let barrier = try Barrier()
            let watch = try LostMemoryWatch(ram)
            let pages = TestPages([ram]) { _ in
                barrier.pass()
                return nil
            }
            var options = FaultHandlerOptions()
            // Nobody is left to read events.
            options.workers = 1
            let handler = try FaultHandler(serving: memory, pages: pages, options: options)
            try handler.start()
            let reading = try Bounded("toucher") {
                LostMemoryWatch.admit()
                return ram.loadWord(at: 0)
            }
            #expect(barrier.isReached())
            let dropping = try Bounded("dropper") { (try? ram.drop(pages: 4..<8)) != nil }
            #expect(
                atLast {
                    var entry = pollfd(fd: own, events: Int16(POLLIN), revents: 0)
                    return unsafe poll(&entry, 1, 0) > 0
                })
            let stopping = try Bounded("stopper") { handler.stop() }
            #expect(dropping.output() == true)
            barrier.open()
            #expect(stopping.output()?.progress.removedPages == 4)
            #expect(reading.output() != nil)
            let lost = try bounded { () -> [Int] in
                LostMemoryWatch.admit()
                let zeros = (4..<8).count { ram.holdsZeros($0) }
                let before = LostMemoryWatch.pagesTouchedByThisThread
                _ = ram.loadWord(at: 10 << 12)
                return [zeros, before, LostMemoryWatch.pagesTouchedByThisThread]
            }
            #expect(lost == [4, 0, 1])
            withExtendedLifetime(watch) {}
        }
    }

    @Test("memory of smaller pages than it says ends the service in words", arguments: [0, 5])
    func otherPages(present: UInt64) throws {
        let geometry = try BlockGeometry(
            name: "lie", lengthBytes: 2 * PageSize.size2MiB.bytes, hostPage: .size2MiB)
        let ram = try GuestRAM(geometry, backing: .anonymous, allowsLargerHostPages: true)
        ram.avoidHugePages()
        ram.storeWord(1, at: present << 12)
        let memory = try RawUserfaultfd.hand(over: [ram], features: Self.plain)
        var options = FaultHandlerOptions()
        // Whoever waits goes on.
        options.missingAtStop = .zeros
        let handler = try FaultHandler(
            serving: memory, pages: TestPages([ram]), options: options)
        try handler.start()
        let reading = try Bounded("toucher") { ram.loadWord(at: 9 << 12) }
        #expect(handler.waitUntilEnded(timeoutNanoseconds: 20_000_000_000))
        let report = try #require(try bounded { handler.stop() })
        #expect(report.error == .otherPages(block: "region 0", pageBytes: 2 << 20))
        #expect(reading.output() != nil)
        #expect(ram.loadWord(at: present << 12) == 1)
    }

    @Test("a descriptor that its owner makes blocking holds nobody up")
    func blocking() throws {
        try withMemory(pages: 8) { ram in
            var own: Int32 = -1
            let memory = try RawUserfaultfd.hand(over: [ram], features: Self.removals) {
                own = dup($0)
            }
            defer { close(own) }
            var options = FaultHandlerOptions()
            options.missingAtStop = .zeros
            let handler = try FaultHandler(
                serving: memory, pages: TestPages([ram]), options: options)
            try handler.start()
            #expect(try bounded { ram.holdsContent(1) } == true)
            let flags = fcntl(own, F_GETFL, 0)
            #expect(fcntl(own, F_SETFL, flags & ~O_NONBLOCK) == 0)
            #expect(try bounded { (2..<6).allSatisfy { ram.holdsContent($0) } } == true)
            #expect(try bounded { handler.stop() }?.progress.missingPages == 3)
        }
    }
}
