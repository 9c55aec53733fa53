import FaultHandling
import Glibc
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "The background of a fault handler",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct BackgroundTests {
    private let patience: UInt64 = 20_000_000_000

    @Test("fill places all that is missing, in runs", arguments: Host.backings)
    func fill(backing: RAMBacking) throws {
        let count = backing == .hugetlb ? 4 : 100
        try withMemory(backing, pages: count) { ram in
            let pages = TestPages([ram])
            let handler = try FaultHandler(memory: [ram], pages: pages)
            handler.fill()
            try handler.start()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            let report = handler.stop()
            #expect(report.progress.backgroundPages == UInt64(count))
            #expect(report.progress.faults == 0)
            #expect(pages.record.reads == (0..<count).map { page($0) })
            #expect(pages.record.bytesMax == (backing == .hugetlb ? 2 << 20 : 128 << 10))
            #expect((0..<count).allSatisfy { ram.holdsContent($0) })
        }
    }

    @Test("memory that has become several mappings is filled, and nothing is missing of it")
    func severalMappings() throws {
        try withMemory(pages: 64) { ram in
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            try handler.start()
            // What is advised for a part makes it a mapping of its own.
            let place = UInt(ram.address.rawValue) + UInt(10 << 12)
            let part = unsafe UnsafeMutableRawPointer(bitPattern: place)
            #expect(unsafe madvise(part, 5 << 12, MADV_SEQUENTIAL) == 0)
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            let report = handler.stop()
            #expect(report.progress.missingPages == 0)
            #expect(report.progress.backgroundPages == 64)
            #expect(report.backgroundProblem == nil)
            #expect((0..<64).allSatisfy { ram.holdsContent($0) })
        }
    }

    @Test("a trace comes first and in its order, then the rest")
    func prefetch() throws {
        try withMemory([
            BlockPlan(backing: .anonymous, pages: 40), BlockPlan(backing: .memfd, pages: 10),
        ]) { memory in
            let wanted = [30, 31, 32, 5, 4, 12].map { page($0) } + [page(9, block: 1)]
            let trace = try FaultTrace(of: memory.map(\.geometry), pages: wanted)
            let pages = TestPages(memory)
            let handler = try FaultHandler(memory: memory, pages: pages)
            try handler.prefetch(trace)
            handler.fill()
            try handler.start()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            handler.stop()
            let reads = pages.record.reads
            #expect(Array(reads.prefix(7)) == wanted)
            let rest = (0..<40).map { page($0) } + (0..<10).map { page($0, block: 1) }
            #expect(Array(reads.dropFirst(7)) == rest.filter { !wanted.contains($0) })
        }
    }

    @Test("a page that is waited for does not queue behind the background")
    func urgent() throws {
        try withMemory(pages: 64) { ram in
            let background = try Barrier()
            let pages = TestPages([ram]) { page in
                if page.page.rawValue == 0 { background.pass() }
                return nil
            }
            var options = FaultHandlerOptions()
            options.workers = 1
            options.backgroundBytes = 4096
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            handler.fill()
            #expect(background.isReached())
            #expect(try bounded { ram.holdsContent(40) } == true)
            #expect(!handler.waitUntilFilled(timeoutNanoseconds: 0))
            // In the very page that the background reads.
            let waiting = try Bounded("toucher") { ram.holdsContent(0) }
            #expect(atLast { handler.progress.faults >= 2 })
            background.open()
            #expect(waiting.output() == true)
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            #expect(pages.record.reads.count == 64)
            handler.stop()
        }
    }

    @Test("several threads have several readings under way, and place each page once")
    func parallel() throws {
        try withMemory(pages: 1_000) { ram in
            let meeting = try Barrier()
            let inside = Mutex(0)
            let pages = TestPages([ram]) { page in
                guard page.page.rawValue < 32 else { return nil }
                // Nobody goes on before all four are here.
                if inside.withLock({ inside in
                    inside += 1
                    return inside == 4
                }) {
                    meeting.open()
                }
                meeting.pass()
                return nil
            }
            var options = FaultHandlerOptions()
            (options.backgroundThreads, options.backgroundBytes) = (4, 4096)
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            let trace = try FaultTrace(
                of: [ram.geometry], pages: (0..<1_000).reversed().map { page($0) })
            try handler.start()
            try handler.prefetch(trace)
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            #expect(pages.record.reads.count == 1_000)
            #expect(pages.record.overlaps == 0)
            handler.stop()
            #expect((0..<1_000).allSatisfy { ram.holdsContent($0) })
        }
    }

    @Test("a page that cannot be read in the background does not keep its neighbours away")
    func unreadable() throws {
        try withMemory(pages: 32) { ram in
            let pages = TestPages([ram]) { page throws(PageProviderError) in
                guard page.page.rawValue == 9 else { return nil }
                throw PageProviderError("sector 9")
            }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            handler.fill()
            #expect(!handler.waitUntilFilled(timeoutNanoseconds: patience))
            let report = handler.stop()
            #expect(report.progress.missingPages == 1)
            #expect(report.progress.backgroundPages == 31)
            #expect(report.backgroundProblem == "sector 9")
            #expect(report.progress.lostPages == 0, "nobody waited for it")
        }
    }

    @Test("what is asked for twice is done once")
    func twice() throws {
        try withMemory(pages: 32) { ram in
            let pages = TestPages([ram])
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            for _ in 0..<3 {
                handler.fill()
                #expect(handler.waitUntilFilled(timeoutNanoseconds: patience))
            }
            #expect(pages.record.reads.count == 32)
            handler.stop()
        }
    }

    @Test("a trace of other memory is refused")
    func otherTrace() throws {
        try withMemory(pages: 8) { ram in
            let other = try BlockGeometry(
                name: "block 0", lengthBytes: 16 << 12, hostPage: HostMemory.pageSize)
            let trace = try FaultTrace(of: [other], pages: [page(3)])
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            #expect(throws: FaultTraceError.self) { try handler.prefetch(trace) }
            let two = try FaultTrace(of: [ram.geometry, ram.geometry], pages: [])
            #expect(throws: FaultTraceError.self) { try handler.prefetch(two) }
        }
    }
}
