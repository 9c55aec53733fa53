import LinuxKernel
import PageModel
import PostcopyRuntime
import Synchronization
import TestSupport

/// Memory for a guest of a test, by host pages.
/// - Parameter hugeIn: what blocks of hugetlb are made of instead, with the same host pages.
func guestMemory(
    _ blocks: [(name: String, pages: Int, backing: RAMBacking)], hugeIn: RAMBacking = .hugetlb
) throws -> [GuestRAM] {
    try blocks.map { block in
        let isHuge = block.backing == .hugetlb
        let size = isHuge ? PageSize.size2MiB : HostMemory.pageSize
        let geometry = try BlockGeometry(
            name: block.name, lengthBytes: UInt64(block.pages) * size.bytes, hostPage: size)
        return try GuestRAM(
            geometry, backing: isHuge ? hugeIn : block.backing, allowsLargerHostPages: isHuge)
    }
}

/// A guest whose memory says where it came from, and whose vCPUs read it in a seeded order.
final class PatternGuest: Guest {
    let machineType: String
    let memory: [GuestRAM]
    let faultOrigin = FaultOrigin.userOnly
    private let vcpuCount: Int
    private let seed: UInt64
    private let threads = Mutex<[Int32]>([])
    private let mayRun = Atomic(false)
    private let stops = Atomic(false)
    private let started: EventFlag
    let mismatches = Atomic(0)
    let reads = Atomic(0)
    let refusesDevices: Bool
    /// Pages that loading the devices touches: block and page.
    let loadTouches: [[Int]]
    /// Every vCPU reads the pages in the same order, so that they fault in the same ones.
    private let sameOrder: Bool
    private let devices: [UInt8]
    /// Done where the devices are saved or loaded: the guest is stopped, its memory on the move.
    private let whileStopped: @Sendable () -> Void
    private let filled = Mutex<Set<[Int]>?>(nil)
    private let resumeAction = Mutex<@Sendable () -> Void>({})

    convenience init(
        blocks: [(name: String, pages: Int, backing: RAMBacking)], vcpuCount: Int = 2,
        seed: UInt64 = 1, machineType: String = "pattern-1", refusesDevices: Bool = false,
        loadTouches: [[Int]] = [], deviceBytes: Int = 3, sameOrder: Bool = false
    ) throws {
        try self.init(
            memory: guestMemory(blocks), vcpuCount: vcpuCount, seed: seed, machineType: machineType,
            refusesDevices: refusesDevices, loadTouches: loadTouches, deviceBytes: deviceBytes,
            sameOrder: sameOrder)
    }

    init(
        memory: [GuestRAM], vcpuCount: Int = 2, seed: UInt64 = 1,
        machineType: String = "pattern-1", refusesDevices: Bool = false,
        loadTouches: [[Int]] = [], deviceBytes: Int = 3, sameOrder: Bool = false,
        whileStopped: @escaping @Sendable () -> Void = {}
    ) throws {
        self.memory = memory
        self.whileStopped = whileStopped
        self.machineType = machineType
        self.vcpuCount = vcpuCount
        self.seed = seed
        self.refusesDevices = refusesDevices
        self.loadTouches = loadTouches
        self.sameOrder = sameOrder
        devices = [1, 2, 3] + Array(repeating: 4, count: deviceBytes - 3)
        started = try EventFlag()
    }

    var vcpuThreads: [Int32] { threads.withLock { $0 } }
    var isRunning: Bool { mayRun.load(ordering: .sequentiallyConsistent) }

    /// Every third target page stays zero.
    static func word(block: Int, page: Int) -> UInt64 {
        page % 3 == 2 ? 0 : content(block: block, page: page)
    }

    func fill() {
        for (block, ram) in memory.enumerated() {
            fill(block: block, pages: 0..<ram.usedPages)
        }
    }

    /// Fills pages that a block gained.
    func fill(block: Int, pages: Range<Int>) {
        for page in pages where page % 3 != 2 {
            let offset = UInt64(page) << 12
            let word = Self.word(block: block, page: page)
            memory[block].withMutablePage(at: offset, lengthBytes: 4096) { words in
                for index in words.indices { words[index] = word &+ UInt64(index) }
            }
        }
    }

    /// Fills these pages, block and page, and leaves all others zero.
    func fill(only pages: Set<[Int]>) {
        expect(only: pages)
        for place in pages {
            let word = Self.content(block: place[0], page: place[1])
            let ram = memory[place[0]]
            ram.withMutablePage(at: UInt64(place[1]) << 12, lengthBytes: 4096) { words in
                for index in words.indices { words[index] = word &+ UInt64(index) }
            }
        }
    }

    /// Says what another guest filled, before this one is compared with it.
    func expect(only pages: Set<[Int]>) { filled.withLock { $0 = pages } }

    private static func content(block: Int, page: Int) -> UInt64 {
        UInt64(block + 1) << 48 | UInt64(page) << 8 | 0x5a
    }

    private func expectedWord(block: Int, page: Int) -> UInt64 {
        Self.expectedWord(block: block, page: page, filled: filled.withLock { $0 })
    }

    private static func expectedWord(block: Int, page: Int, filled: Set<[Int]>?) -> UInt64 {
        guard let filled else { return word(block: block, page: page) }
        return filled.contains([block, page]) ? content(block: block, page: page) : 0
    }

    /// Words that differ from what `fill` wrote, over all memory; beyond what is used all are zero.
    func wrongWords() -> Int {
        var wrong = 0
        for (block, ram) in memory.enumerated() {
            for page in 0..<ram.geometry.targetPageCount {
                let isUsed = page < ram.usedPages
                let word = isUsed ? expectedWord(block: block, page: page) : 0
                ram.withPage(at: UInt64(page) << 12, lengthBytes: 4096) { words in
                    for index in words.indices {
                        let expected = word == 0 ? 0 : word &+ UInt64(index)
                        if words[index] != expected { wrong += 1 }
                    }
                }
            }
        }
        return wrong
    }

    func pause() { mayRun.store(false, ordering: .sequentiallyConsistent) }

    /// Does `action` whenever the guest is resumed, before it runs.
    func onResume(_ action: @escaping @Sendable () -> Void) {
        resumeAction.withLock { $0 = action }
    }

    func resume() {
        resumeAction.withLock { $0 }()
        mayRun.store(true, ordering: .sequentiallyConsistent)
        started.raise()
    }

    func saveDevices() -> [UInt8] {
        whileStopped()
        return devices
    }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        whileStopped()
        for place in loadTouches {
            let word = memory[place[0]].loadWord(at: UInt64(place[1]) << 12)
            if word != expectedWord(block: place[0], page: place[1]) {
                mismatches.add(1, ordering: .relaxed)
            }
        }
        guard !refusesDevices, sections == devices else { throw GuestError("not my devices") }
    }

    /// Runs the vCPUs, each through every page once, from the first `resume` on.
    func runVCPUs() throws -> [JoinableReader] {
        try (0..<vcpuCount).map { index in try JoinableReader(self, index) }
    }

    func stop() {
        stops.store(true, ordering: .sequentiallyConsistent)
        started.raise()
    }

    fileprivate func read(_ index: Int, _ registered: EventFlag) {
        threads.withLock { $0.append(currentThreadID()) }
        registered.raise()
        started.wait()
        // Asked for once: hundreds of readers would queue at the lock.
        let filled = filled.withLock { $0 }
        var generator = SeededRandom(seed: sameOrder ? seed : seed &+ UInt64(index))
        for (block, ram) in memory.enumerated() {
            var pages = Array(0..<ram.usedPages)
            pages.shuffle(using: &generator)
            for page in pages {
                if stops.load(ordering: .relaxed) { return }
                let expected = Self.expectedWord(block: block, page: page, filled: filled)
                let word = ram.loadWord(at: UInt64(page) << 12)
                // Whoever waited for a page when its session went reads zeros.
                if word != expected, !stops.load(ordering: .sequentiallyConsistent) {
                    mismatches.add(1, ordering: .relaxed)
                }
                reads.add(1, ordering: .relaxed)
            }
        }
    }
}

extension GuestRAM {
    /// The target pages that the guest uses.
    var usedPages: Int { Int(usedBytes >> 12) }
}

/// One vCPU of a `PatternGuest`.
final class JoinableReader: Sendable {
    private let thread: Bounded<Void>
    private let registered: EventFlag

    init(_ guest: PatternGuest, _ index: Int) throws {
        let registered = try EventFlag()
        self.registered = registered
        thread = try Bounded("vcpu\(index)") { guest.read(index, registered) }
        registered.wait()
    }

    /// Answers `false` when the thread hangs.
    @discardableResult
    func join(withinSeconds seconds: UInt64 = 20) -> Bool {
        thread.output(withinSeconds: seconds) != nil
    }
}
