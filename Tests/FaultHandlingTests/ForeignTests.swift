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
    "Memory of another process",
    .enabled(if: Host.hasUserfaultfd, "needs root or access to /dev/userfaultfd"))
struct ForeignTests {
    private static let plain = [PC_UFFD_FEATURE_THREAD_ID]
    private static let removals = [
        PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_EVENT_REMOVE, PC_UFFD_FEATURE_EVENT_UNMAP,
    ]

    private struct Setup {
        var features = plain
        var hook: TestPages.Hook = { _ in nil }
        var options = FaultHandlerOptions()
        var held: (@Sendable (FaultHeldPoint) -> Void)?

        static let removals = Setup(features: ForeignTests.removals)
    }

    /// Runs `body` with a client whose memory is served.
    private func serve(
        _ plans: [String], _ setup: Setup = Setup(),
        _ body: (ClientProcess, FaultHandler, TestPages) throws -> Void
    ) throws {
        func start() throws {
            let client = try ClientProcess(plans, features: setup.features)
            let memory = try client.memory()
            let pages = TestPages(memory.regions.map(\.geometry), hook: setup.hook)
            let handler = try FaultHandler(
                serving: memory, pages: pages, options: setup.options, held: setup.held)
            try handler.start()
            try body(client, handler, pages)
            client.end()
            handler.stop()
        }
        let huge = plans.filter { $0.hasPrefix("hugetlb") }.compactMap { plan in
            plan.split(separator: ":").last.flatMap { Int($0) }
        }
        if huge.isEmpty {
            try start()
        } else {
            try HugePagePool.raised(by: huge.reduce(0, +), start)
        }
    }

    private static let plans =
        Host.canRaiseHugePages
        ? ["anonymous:16", "hugetlb:2", "memfd:16"] : ["anonymous:16", "anonymous:2", "memfd:16"]

    @Test(
        "its pages come when it touches them, whatever it asked for",
        arguments: [
            [], [PC_UFFD_FEATURE_THREAD_ID], [PC_UFFD_FEATURE_EXACT_ADDRESS],
            [PC_UFFD_FEATURE_EVENT_REMOVE],
            [
                PC_UFFD_FEATURE_EVENT_REMOVE, PC_UFFD_FEATURE_EVENT_UNMAP,
                PC_UFFD_FEATURE_EVENT_FORK, PC_UFFD_FEATURE_EVENT_REMAP,
                PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_EXACT_ADDRESS,
            ],
        ].map { $0.map(\.rawValue) })
    func onDemand(features: [UInt32]) throws {
        try serve(Self.plans, Setup(features: features.map { pc_uffd_feature($0) })) {
            client, handler, pages throws in
            for (index, region) in client.regions.enumerated() {
                for offset in stride(from: 0, to: region.lengthBytes, by: 4096) {
                    // In the middle of pages, too.
                    let place = offset + (offset / 4096 % 2) * 4088
                    let word = try client.call("read", region.address + place)
                    let expected = TestPages.word(index, place)
                    #expect(word.map { UInt64(bitPattern: $0) } == expected)
                }
            }
            #expect(pages.record.reads.count == 34)
            let report = handler.stop()
            #expect(report.progress.missingPages == 0)
            #expect(report.latency.count == 34)
            let knowsThreads = features.contains(PC_UFFD_FEATURE_THREAD_ID.rawValue)
            #expect(report.blocktime.others.waitCount == (knowsThreads ? 34 : 0))
            #expect(report.blocktime.untrackedCount == (knowsThreads ? 0 : 34))
        }
    }

    @Test("fill brings all of it, and then it needs nobody")
    func fill() throws {
        try serve(Self.plans) { client, handler, pages throws in
            handler.fill()
            #expect(handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000))
            handler.stop()
            let word = try client.call("read", client.address(2, 5 << 12))
            #expect(word.map { UInt64(bitPattern: $0) } == TestPages.word(2, 5 << 12))
        }
    }

    @Test("pages that it gives up are zeros from then on, and so are those that it unmaps")
    func removed() throws {
        try serve(Self.plans, .removals) { client, handler, pages throws in
            #expect(try client.call("read", client.address(0, 0)) != 0)
            #expect(try client.call("drop", client.address(0, 0), 3 << 12) == 0)
            #expect(try client.call("remove", client.address(2, 4 << 12), 2 << 12) == 0)
            for offset: UInt64 in [0, 4096, 8192 + 4088] {
                #expect(try client.call("read", client.address(0, offset)) == 0)
            }
            #expect(try client.call("read", client.address(2, 5 << 12)) == 0)
            #expect(try client.call("read", client.address(2, 6 << 12)) != 0)
            #expect(try client.call("unmap", client.address(0, 8 << 12), 8 << 12) == 0)
            #expect(atLast { handler.progress.removedPages == 3 + 2 + 8 })
            handler.fill()
            _ = handler.waitUntilFilled(timeoutNanoseconds: 20_000_000_000)
            #expect(handler.progress.missingPages == 0)
            let asked = pages.record.reads.filter { $0.block.rawValue == 0 }.map(\.page.rawValue)
            #expect(Set(asked) == [0, 3, 4, 5, 6, 7])
        }
    }

    @Test(
        "a part of a huge page that is given up is zeros, and the rest of it is not",
        .enabled(if: Host.canRaiseHugePages), arguments: [false, true])
    func removedPart(isHeld: Bool) throws {
        let barrier = try Barrier()
        let held: @Sendable (FaultHeldPoint) -> Void = { point in
            if case .contentRead(let read) = point, read == page(0), isHeld { barrier.pass() }
        }
        try serve(["hugetlb-shared:2"], Setup(features: Self.removals, held: held)) {
            client, handler, _ throws in
            let word = client.address(0, 5 << 12)
            var reading: Int?
            if isHeld {
                reading = try client.send("read", word)
                #expect(barrier.isReached())
            }
            #expect(try client.call("remove", client.address(0, 4 << 12), 3 << 12) == 0)
            barrier.open()
            if let reading { #expect(client.answer(to: reading) == 0) }
            let words = try [3, 4, 5, 6, 7, 511].map { index in
                try client.call("read", client.address(0, UInt64(index) << 12))
            }
            #expect(words.map { $0 == 0 } == [false, true, true, true, false, false])
            let expected = TestPages.word(0, 3 << 12)
            #expect(words[0].map { UInt64(bitPattern: $0) } == expected)
            #expect(handler.progress.removedPages == 3)
            // Counted behind the placing, and who reads the page may be faster.
            #expect(atLast { handler.progress.missingPages == 1 })
        }
    }

    @Test(
        "a huge page that is given up is zeros, and the next one is not",
        .enabled(if: Host.canRaiseHugePages), arguments: [false, true])
    func removedHuge(isHeld: Bool) throws {
        let barrier = try Barrier()
        let held: @Sendable (FaultHeldPoint) -> Void = { point in
            if case .contentRead(let read) = point, read == page(0), isHeld { barrier.pass() }
        }
        try serve(["hugetlb:3"], Setup(features: Self.removals, held: held)) {
            client, handler, _ throws in
            let word = client.address(0, 5 << 12)
            var reading: Int?
            if isHeld {
                reading = try client.send("read", word)
                #expect(barrier.isReached())
            }
            // Private huge pages can be given up whole only: the kernel tells of what is whole.
            let dropped = try client.call("drop", client.address(0, 0), 2 << 20)
            #expect(dropped == 0)
            barrier.open()
            if let reading { #expect(client.answer(to: reading) == 0) }
            #expect(try client.call("read", word) == 0)
            #expect(try client.call("read", client.address(0, 2 << 20)) != 0)
            #expect(handler.progress.removedPages == 512)
        }
    }

    @Test("content that was read before it gave the page up does not come back")
    func heldWorker() throws {
        let barrier = try Barrier()
        let held: @Sendable (FaultHeldPoint) -> Void = { point in
            if case .contentRead(let read) = point, read == page(3) { barrier.pass() }
        }
        try serve(["anonymous:8"], Setup(features: Self.removals, held: held)) {
            client, handler, _ throws in
            let reading = try client.send("read", client.address(0, 3 << 12))
            #expect(barrier.isReached())
            #expect(try client.call("drop", client.address(0, 2 << 12), 2 << 12) == 0)
            barrier.open()
            #expect(client.answer(to: reading) == 0)
            #expect(try client.call("read", client.address(0, 4 << 12)) != 0)
        }
    }

    @Test("when it is killed the handler ends and says so", arguments: [false, true])
    func killed(whileReading: Bool) throws {
        let told = Mutex([FaultHandlerError]())
        let barrier = try Barrier()
        var options = FaultHandlerOptions()
        options.ended = { error in told.withLock { $0.append(error) } }
        let hook: TestPages.Hook = { _ in
            if whileReading { barrier.pass() }
            return nil
        }
        try serve(["anonymous:8"], Setup(hook: hook, options: options)) {
            client, handler, _ throws in
            if whileReading {
                _ = try client.send("read", client.address(0, 0))
                #expect(barrier.isReached())
            }
            client.end()
            barrier.open()
            #expect(handler.waitUntilEnded(timeoutNanoseconds: 20_000_000_000))
            let report = try #require(try bounded { handler.stop() })
            #expect(report.error == .ownerGone)
            #expect(report.progress.state == .ended(.ownerGone))
            #expect(told.withLock { $0 } == [.ownerGone])
        }
    }

    @Test(
        "when the handler stops early, its threads get a memory error, not zeros",
        .enabled(if: Host.hasPoison))
    func stoppedEarly() throws {
        try serve(["anonymous:8"]) { client, handler, _ throws in
            #expect(try client.call("read", client.address(0, 0)) != 0)
            #expect(handler.stop().progress.missingPages == 7)
            let reading = try client.send("read", client.address(0, 4096))
            // It ends by SIGBUS, and its socket with it.
            #expect(client.answer(to: reading) == nil)
            #expect(client.endedBySignal() == SIGBUS)
        }
    }

    @Test("zeros, where that was asked for")
    func stoppedWithZeros() throws {
        let barrier = try Barrier()
        var options = FaultHandlerOptions()
        options.missingAtStop = .zeros
        let hook: TestPages.Hook = { page in
            if page.page.rawValue == 2 { barrier.pass() }
            return nil
        }
        try serve(["anonymous:8"], Setup(features: Self.removals, hook: hook, options: options)) {
            client, handler, _ throws in
            let waiting = try client.send("read", client.address(0, 2 << 12))
            #expect(barrier.isReached())
            let stopping = try Bounded("stopper") { handler.stop() }
            #expect(client.answer(to: waiting) == 0)
            #expect(try client.call("read", client.address(0, 3 << 12)) == 0)
            #expect(try client.call("drop", client.address(0, 0), 8 << 12) == 0)
            barrier.open()
            #expect(stopping.output() != nil)
        }
    }

    @Test("whoever gives up pages while the handler stops is not left waiting")
    func dropAtStop() throws {
        for _ in 0..<20 {
            try serve(["anonymous:64"], .removals) { client, handler, _ throws in
                let drops = try (0..<8).map { index in
                    try client.send("drop", client.address(0, UInt64(index) << 15), 8 << 12)
                }
                handler.stop()
                for drop in drops { #expect(client.answer(to: drop) == 0) }
            }
        }
    }

    @Test("a fork and a move are refused in words", arguments: ["fork", "move"])
    func unsupported(command: String) throws {
        let features = [
            PC_UFFD_FEATURE_THREAD_ID, PC_UFFD_FEATURE_EVENT_FORK, PC_UFFD_FEATURE_EVENT_REMAP,
        ]
        try serve(["anonymous:8"], Setup(features: features)) { client, handler, _ throws in
            _ = try client.send(command)
            #expect(handler.waitUntilEnded(timeoutNanoseconds: 20_000_000_000))
            let report = handler.stop()
            switch report.error {
            case .unsupported(.fork): #expect(command == "fork")
            case .unsupported(.move): #expect(command == "move")
            default: Issue.record("\(String(describing: report.error))")
            }
        }
    }

    @Test("a fault outside of what it described is its own trouble", .enabled(if: Host.hasPoison))
    func outside() throws {
        let told = Mutex([LostPage]())
        var options = FaultHandlerOptions()
        options.pageLost = { page in told.withLock { $0.append(page) } }
        try serve(["anonymous:8"], Setup(options: options)) { client, handler, _ throws in
            let stray = UInt64(bitPattern: try #require(try client.call("register", 4)))
            #expect(try client.call("read", client.address(0, 0)) != 0)
            let reading = try client.send("read", stray + 4096 + 8)
            #expect(client.answer(to: reading) == nil)
            #expect(client.endedBySignal() == SIGBUS)
            #expect(told.withLock { $0 }.map(\.page) == [nil])
            #expect(told.withLock { $0 }.map(\.address.rawValue) == [stray + 4096])
            #expect(handler.waitUntilEnded(timeoutNanoseconds: 20_000_000_000))
        }
    }

    @Test(
        "a client that is gone, or that unmapped the place, before its stray fault is refused has ended",
        arguments: [false, true])
    func outsideAndGone(isKilled: Bool) throws {
        let barrier = try Barrier()
        let held: @Sendable (FaultHeldPoint) -> Void = { point in
            if case .faultOutside = point { barrier.pass() }
        }
        try serve(["anonymous:8"], Setup(held: held)) { client, handler, _ throws in
            let stray = UInt64(bitPattern: try #require(try client.call("register", 4)))
            let reading = try client.send("read", stray + 4096)
            #expect(barrier.isReached())
            if isKilled {
                client.end()
            } else {
                #expect(try client.call("unmap", stray, 4 << 12) == 0)
            }
            barrier.open()
            #expect(client.answer(to: reading) == nil)
            #expect(client.endedBySignal() == (isKilled ? SIGKILL : SIGSEGV))
            #expect(handler.waitUntilEnded(timeoutNanoseconds: 20_000_000_000))
            let report = handler.stop()
            #expect(report.error == .ownerGone)
            #expect(report.lost.isEmpty)
        }
    }
}
