import LinuxKernel
import MigrationCore
import PageModel
import PostcopyRuntime
import StreamWire
import Synchronization
import TestSupport

/// What two `WritingGuest`s agree on: how often each target page was written. It lies beside guest
/// memory, and only the vCPU that owns a page changes its count.
final class WriteCounts: Sendable {
    private let counts: [GuestRAM]
    /// Accesses that found another count than this, at either side.
    let mismatches = Atomic(0)
    let steps = Atomic(0)

    init(_ blocks: [BlockGeometry]) throws {
        counts = try blocks.enumerated().map { index, block in
            let page = HostMemory.pageSize.bytes
            let length = (UInt64(block.targetPageCount) * 8 + page - 1) / page * page
            return try GuestRAM(
                BlockGeometry(
                    name: "counts\(index)", lengthBytes: length, hostPage: HostMemory.pageSize),
                backing: .anonymous)
        }
    }

    func count(_ block: Int, _ page: Int) -> UInt64 { counts[block].loadWord(at: UInt64(page) * 8) }

    func setCount(_ count: UInt64, _ block: Int, _ page: Int) {
        counts[block].storeWord(count, at: UInt64(page) * 8)
    }
}

/// A guest that writes all the time: its vCPUs read and increment the first and the last word of pages
/// in seeded random order, each vCPU its own pages. Every page is compared with the counts at the end.
final class WritingGuest: Guest {
    let machineType = "writing-1"
    let memory: [GuestRAM]
    let faultOrigin = FaultOrigin.userOnly
    let counts: WriteCounts
    private let vcpuCount: Int
    private let seed: UInt64
    /// Steps that a vCPU does before it lets others run; 0: it only reads.
    private let hotPages: Int?
    private let mayRun = Atomic(false)
    private let threads = Mutex<[Bounded<Void>]>([])
    private let tracker: @Sendable ([GuestRAM]) -> any DirtyTracker
    let throttles = Mutex<[Int]>([])
    /// Called when the guest was asked to stop and its vCPUs have.
    let onPause = Mutex<(@Sendable () -> Void)?>(nil)

    init(
        blocks: [(name: String, pages: Int, backing: RAMBacking)], counts: WriteCounts? = nil,
        vcpuCount: Int = 2, seed: UInt64 = 1, hotPages: Int? = nil,
        hugeIn: RAMBacking = .hugetlb,
        tracker: @escaping @Sendable ([GuestRAM]) -> any DirtyTracker = {
            WriteProtectTracker($0)
        }
    ) throws {
        memory = try guestMemory(blocks, hugeIn: hugeIn)
        self.counts = try counts ?? WriteCounts(memory.map(\.geometry))
        self.vcpuCount = vcpuCount
        self.seed = seed
        self.hotPages = hotPages
        self.tracker = tracker
    }

    var vcpuThreads: [Int32] { [] }
    var isRunning: Bool { mayRun.load(ordering: .sequentiallyConsistent) }

    func makeDirtyTracker(
        ignoring ignored: Set<BlockIndex>
    ) throws(TrackerRefusal) -> any DirtyTracker { tracker(memory) }

    func throttle(percent: Int) { throttles.withLock { $0.append(percent) } }
    func saveDevices() -> [UInt8] { [7] }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard sections == [7] else { throw GuestError("not my devices") }
    }

    func resume() {
        mayRun.store(true, ordering: .sequentiallyConsistent)
        for index in 0..<vcpuCount {
            guard let thread = try? Bounded("vcpu\(index)", { self.run(index) }) else { continue }
            threads.withLock { $0.append(thread) }
        }
    }

    func pause() {
        _ = stop()
        onPause.withLock { $0 }?()
    }

    /// Answers `false` when a vCPU hangs.
    func stop() -> Bool {
        mayRun.store(false, ordering: .sequentiallyConsistent)
        let running = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        return running.allSatisfy { $0.output() != nil }
    }

    /// Writes a page once more, as a vCPU would; only while none runs.
    func write(_ block: Int, _ page: Int) {
        let ram = memory[block]
        let (start, count) = (UInt64(page) << 12, counts.count(block, page))
        let found = (ram.loadWord(at: start), ram.loadWord(at: start + 4088))
        if found != (count, count) { counts.mismatches.add(1, ordering: .relaxed) }
        counts.setCount(count + 1, block, page)
        ram.storeWord(count + 1, at: start)
        ram.storeWord(count + 1, at: start + 4088)
        counts.steps.add(1, ordering: .relaxed)
    }

    /// Target pages that do not hold what was written last.
    func wrongPages() -> Int {
        memory.indices.reduce(0) { sum, block in
            let pages = 0..<memory[block].geometry.targetPageCount
            return sum + pages.count { isWrong(block, $0) }
        }
    }

    func isWrong(_ block: Int, _ page: Int) -> Bool {
        let count = counts.count(block, page)
        return memory[block].withPage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
            var sum: UInt64 = 0
            for index in 1..<511 { sum |= words[index] }
            return words[0] != count || words[511] != count || sum != 0
        }
    }

    private func run(_ index: Int) {
        var generator = SeededRandom(seed: seed &* 31 &+ UInt64(index))
        while mayRun.load(ordering: .relaxed) {
            let block = Int.random(in: memory.indices, using: &generator)
            let pages = min(hotPages ?? .max, memory[block].geometry.targetPageCount)
            let own = Int.random(in: 0..<max(1, pages / vcpuCount), using: &generator)
            let page = own * vcpuCount + index
            if page < pages { write(block, page) }
        }
    }
}

/// Two writing guests and one migration between them.
struct WritingPair {
    private let blocks: [(name: String, pages: Int, backing: RAMBacking)]
    let source: WritingGuest
    let destination: WritingGuest

    struct Outcome {
        let source: SourceReport
        let destination: DestinationReport
    }

    init(
        blocks: [(name: String, pages: Int, backing: RAMBacking)], seed: UInt64 = 1,
        hotPages: Int? = nil, hugeIn: RAMBacking = .hugetlb,
        tracker: @escaping @Sendable ([GuestRAM]) -> any DirtyTracker = {
            WriteProtectTracker($0)
        }
    ) throws {
        self.blocks = blocks
        source = try WritingGuest(
            blocks: blocks, seed: seed, hotPages: hotPages, hugeIn: hugeIn, tracker: tracker)
        destination = try WritingGuest(
            blocks: blocks, counts: source.counts, seed: seed &+ 1, hotPages: hotPages,
            hugeIn: hugeIn)
    }

    /// Migrates a guest that another migration left where it was.
    init(source: WritingGuest, like pair: WritingPair) throws {
        blocks = pair.blocks
        self.source = source
        destination = try WritingGuest(blocks: pair.blocks, counts: source.counts, seed: 99)
    }

    /// Runs the source's guest, migrates it, and stops it where it is then.
    /// - Parameters:
    ///   - bytes: the link breaks after so many from the source.
    ///   - recorder: notes what both ends write.
    ///   - handle: called with the proxy that would break it, before anything runs.
    ///   - steer: called once both sides run, with the source.
    func migrate(
        _ options: MigrationOptions, cutAfter bytes: Int? = nil,
        recorder: MigrationRecorder? = nil,
        steer: (SourceSession) -> Void = { _ in },
        through handle: ((CuttingProxy) -> Void)? = nil
    ) throws -> Outcome? {
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:127.0.0.1:0"))
        let target = listener.address
        let place = Handover(listener)
        let receiving = try DestinationSession(guest: destination, options: options)
        let sending = try SourceSession(guest: source, options: options)
        let hasProxy = bytes != nil || recorder != nil
        let proxy =
            hasProxy
            ? try CuttingProxy(
                to: target, cutAfter: bytes ?? .max, recorder: recorder) : nil
        if let proxy { handle?(proxy) }
        let address = proxy?.address ?? target
        defer { _ = proxy?.stop() }
        source.resume()
        let receiver = try Bounded("destination") { receiving.run(on: place.take()) }
        let sender = try Bounded("source") { sending.run(to: address) }
        steer(sending)
        guard let sent = sender.output(withinSeconds: 60) else { return nil }
        if sent.status != .completed { receiving.cancel() }
        guard let received = receiver.output(withinSeconds: 60) else { return nil }
        guard source.stop(), destination.stop() else { return nil }
        return Outcome(source: sent, destination: received)
    }
}
