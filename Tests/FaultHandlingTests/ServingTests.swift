import FaultHandling
import LinuxKernel
import MigrationCore
import PageModel
import Synchronization
import TestSupport
import Testing

@Suite(
    "A fault handler",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct ServingTests {
    @Test("pages come when they are touched, each once", arguments: Host.backings)
    func onDemand(backing: RAMBacking) throws {
        let count = backing == .hugetlb ? 6 : 300
        try withMemory(backing, pages: count) { ram in
            let pages = TestPages([ram])
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            var random = SeededRandom(seed: 1)
            let order = (0..<count).shuffled(using: &random)
            let right = try bounded { order.count { ram.holdsContent($0) } }
            #expect(right == count)
            let report = handler.stop()
            #expect(pages.record.reads.map(\.page.rawValue) == order)
            #expect(report.trace.pages == pages.record.reads)
            #expect(report.progress.state == .stopped)
            #expect(report.progress.faults >= UInt64(count))
            #expect(report.progress.urgentPages == UInt64(count))
            #expect(report.progress.missingPages == 0)
            #expect(report.progress.backgroundPages == 0)
            #expect(report.progress.lostPages == 0)
            #expect(report.latency.count == UInt64(count))
            #expect(report.blocktime.others.waitCount == UInt64(count))
            #expect(report.blocktime.untrackedCount == 0)
            #expect(report.error == nil)
            #expect(ram.holdsContent(order[0]), "unregistered, and still here")
        }
    }

    @Test("several blocks of different pages are served side by side")
    func blocks() throws {
        var plans = [
            BlockPlan(backing: .anonymous, pages: 64), BlockPlan(backing: .memfd, pages: 32),
        ]
        if Host.canRaiseHugePages { plans.append(BlockPlan(backing: .hugetlb, pages: 2)) }
        try withMemory(plans) { memory in
            let pages = TestPages(memory)
            let handler = try FaultHandler(memory: memory, pages: pages)
            try handler.start()
            let readers = try memory.enumerated().map { index, ram in
                try Bounded("toucher") {
                    (0..<ram.geometry.hostPageCount).allSatisfy {
                        ram.holdsContent($0, block: index)
                    }
                }
            }
            for reader in readers { #expect(reader.output() == true) }
            let report = handler.stop()
            #expect(report.progress.missingPages == 0)
            #expect(pages.record.overlaps == 0)
            #expect(Set(pages.record.reads).count == pages.record.reads.count)
        }
    }

    @Test("zeros are placed as zeros", arguments: Host.backings)
    func zeros(backing: RAMBacking) throws {
        try withMemory(backing, pages: 4) { ram in
            let pages = TestPages([ram]) { page in page.page.rawValue % 2 == 0 ? .zeros : nil }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            let zeros = try bounded { (0..<4).map { ram.holdsZeros($0) } }
            #expect(zeros == [true, false, true, false])
            #expect(try bounded { ram.holdsContent(1) && ram.holdsContent(3) } == true)
            #expect(handler.stop().progress.zeroPages == 2)
        }
    }

    @Test("a block counted in larger host pages is read and placed in those")
    func largerHostPages() throws {
        let geometry = try BlockGeometry(
            name: "larger", lengthBytes: 4 * PageSize.size2MiB.bytes, hostPage: .size2MiB)
        let ram = try GuestRAM(geometry, backing: .anonymous, allowsLargerHostPages: true)
        let pages = TestPages([ram])
        let handler = try FaultHandler(memory: [ram], pages: pages)
        try handler.start()
        #expect(try bounded { (0..<4).allSatisfy { ram.holdsContent($0) } } == true)
        #expect(pages.record.reads.map(\.page.rawValue) == [0, 1, 2, 3])
        #expect(handler.stop().progress.missingPages == 0)
    }

    @Test("a page that is slow to read does not hold up another")
    func slowPage() throws {
        try withMemory(pages: 64) { ram in
            let slow = try Barrier()
            let pages = TestPages([ram]) { page in
                if page.page.rawValue == 7 { slow.pass() }
                return nil
            }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            let waiting = try Bounded("slow") { ram.holdsContent(7) }
            #expect(slow.isReached())
            let others = try bounded { (0..<64).count { $0 != 7 && ram.holdsContent($0) } }
            #expect(others == 63)
            // A page is noted once the kernel has it, when its reader may be on.
            #expect(atLast { handler.progress.missingPages == 1 })
            slow.open()
            #expect(waiting.output() == true)
            #expect(handler.stop().progress.missingPages == 0)
        }
    }

    @Test("all workers but one read slow pages at once, and the last one serves another")
    func slowPages() throws {
        let (rounds, slow) = (20, 5)
        let barriers = try (0..<rounds).map { _ in try Barrier(count: slow) }
        try withMemory(pages: rounds * (slow + 1)) { ram in
            let pages = TestPages([ram]) { page in
                let (round, place) = page.page.rawValue.quotientAndRemainder(dividingBy: slow + 1)
                if place < slow { barriers[round].pass() }
                return nil
            }
            var options = FaultHandlerOptions()
            options.workers = slow + 1
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            defer { for barrier in barriers { barrier.open() } }
            for round in 0..<rounds {
                let first = round * (slow + 1)
                let readers = try (first..<first + slow).map { index in
                    try Bounded("slow") { ram.holdsContent(index) }
                }
                try #require(barriers[round].isReached(), "round \(round)")
                #expect(try bounded { ram.holdsContent(first + slow) } == true, "round \(round)")
                barriers[round].open()
                for reader in readers { #expect(reader.output() == true) }
            }
            #expect(handler.stop().progress.missingPages == 0)
        }
    }

    @Test("threads that meet in a page wait for one reading of it", arguments: [1, 2, 8])
    func meeting(workers: Int) throws {
        try withMemory(pages: 200) { ram in
            let pages = TestPages([ram])
            var options = FaultHandlerOptions()
            options.workers = workers
            let handler = try FaultHandler(memory: [ram], pages: pages, options: options)
            try handler.start()
            handler.fill()
            let readers = try (0..<8).map { seed in
                try Bounded("toucher") {
                    var random = SeededRandom(seed: UInt64(seed % 2))
                    let order = (0..<200).shuffled(using: &random)
                    return order.count { ram.holdsContent($0) }
                }
            }
            for reader in readers { #expect(reader.output() == 200) }
            #expect(handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000))
            let report = handler.stop()
            #expect(pages.record.overlaps == 0)
            #expect(Set(pages.record.reads).count == 200)
            // A fault that was over when it was read, twice in one page: rare.
            #expect(pages.record.reads.count < 205, "each page was read once")
            #expect(report.progress.missingPages == 0)
        }
    }

    @Test("more threads than workers wait for their turn and are all served")
    func manyThreads() throws {
        try withMemory(pages: 100) { ram in
            let first = try Barrier()
            let pages = TestPages([ram]) { _ in
                first.pass()
                return nil
            }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            let readers = try (0..<100).map { index in
                try Bounded("toucher") { ram.holdsContent(index) }
            }
            #expect(first.isReached())
            first.open()
            for reader in readers { #expect(reader.output() == true) }
            #expect(handler.stop().blocktime.others.waitCount == 100)
        }
    }

    @Test("what was touched before the start stays as it is")
    func present() throws {
        try withMemory(pages: 8) { ram in
            ram.storeWord(77, at: 3 << 12)
            let handler = try FaultHandler(memory: [ram], pages: TestPages([ram]))
            try handler.start()
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000))
            #expect(try bounded { ram.loadWord(at: 3 << 12) } == 77)
            #expect(try bounded { ram.holdsContent(2) && ram.holdsContent(4) } == true)
            #expect(handler.stop().progress.alreadyPresentPages == 1)
        }
    }

    @Test("of a resizable block what is used is served")
    func usedPart() throws {
        let page = HostMemory.pageSize
        let geometry = try BlockGeometry(
            name: "resizable", lengthBytes: 64 * page.bytes, hostPage: page)
        let ram = try GuestRAM(geometry, backing: .anonymous, usedBytes: 16 * page.bytes)
        let pages = TestPages([ram])
        let handler = try FaultHandler(memory: [ram], pages: pages)
        #expect(handler.progress.missingPages == 16)
        try handler.start()
        #expect(throws: RAMError.frozen(block: "resizable")) { try ram.resize(to: page.bytes) }
        handler.fill()
        #expect(handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000))
        handler.stop()
        #expect(pages.record.reads.map(\.page.rawValue) == Array(0..<16))
        try ram.resize(to: page.bytes)
    }

    @Test("how far it has come is one line, with what is rare where there is any")
    func progressInWords() throws {
        #expect(
            "\(FaultProgress())"
                == "ready: 0 faults, 0 pages asked for, 0 brought ahead, 0 missing")
        try withMemory(pages: 4) { ram in
            let pages = TestPages([ram]) { $0 == page(1) ? .zeros : nil }
            let handler = try FaultHandler(memory: [ram], pages: pages)
            try handler.start()
            #expect(try bounded { ram.holdsContent(0) && ram.holdsZeros(1) } == true)
            let report = handler.stop()
            #expect(
                "\(report.progress)"
                    == "stopped: 2 faults, 2 pages asked for, 0 brought ahead, 2 missing, 1 of zeros"
            )
        }
    }
}
