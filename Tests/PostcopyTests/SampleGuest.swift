import Glibc
import Postcopy
import Synchronization
import TestSupport

/// A guest without vCPUs: its memory holds a pattern, and it notes what it is told.
final class SampleGuest: Guest {
    let machineType = "sample-1"
    let faultOrigin = FaultOrigin.userOnly
    let vcpuThreads: [Int32] = []
    private let blocks: Mutex<[GuestRAM]>
    private let running = Atomic(false)
    /// How often it was stopped.
    let pauseCount = Atomic(0)
    /// Called before it stops.
    let onPause = Mutex<(@Sendable () -> Void)?>(nil)
    /// Called before it says what memory it has.
    let onMemory = Mutex<(@Sendable () -> Void)?>(nil)

    init(_ blocks: [GuestRAM]) { self.blocks = Mutex(blocks) }

    convenience init(megabytes: UInt64, isFilled: Bool = false) throws {
        let block = try BlockGeometry(
            name: "sample.ram", lengthBytes: megabytes << 20, hostPage: HostMemory.pageSize)
        self.init([try GuestRAM(block, backing: .anonymous)])
        if isFilled { fill() }
    }

    var memory: [GuestRAM] {
        let body = onMemory.withLock { $0 }
        body?()
        return blocks.withLock { $0 }
    }

    func setMemory(_ memory: [GuestRAM]) { blocks.withLock { $0 = memory } }

    var isRunning: Bool { running.load(ordering: .sequentiallyConsistent) }

    func pause() {
        let body = onPause.withLock { $0 }
        body?()
        pauseCount.add(1, ordering: .relaxed)
        running.store(false, ordering: .sequentiallyConsistent)
    }

    func resume() { running.store(true, ordering: .sequentiallyConsistent) }

    func saveDevices() -> [UInt8] { [1, 2, 3] }

    func loadDevices(_ sections: [UInt8]) throws(GuestError) {
        guard sections == [1, 2, 3] else { throw GuestError("these are no devices of mine") }
    }

    private static func word(_ block: Int, _ page: Int) -> UInt64 {
        (UInt64(block) << 32 | UInt64(page) + 1) &* 0x9e37_79b9_7f4a_7c15
    }

    /// Gives every page content of its own.
    func fill() {
        each { ram, block, page in ram.storeWord(Self.word(block, page), at: page << 12) }
    }

    /// Pages that do not hold what `fill` gave them.
    var wrongPages: Int {
        var count = 0
        each { ram, block, page in
            if ram.loadWord(at: page << 12) != Self.word(block, page) { count += 1 }
        }
        return count
    }

    private func each(_ body: (GuestRAM, Int, Int) -> Void) {
        for (block, ram) in memory.enumerated() {
            for page in 0..<ram.geometry.targetPageCount { body(ram, block, page) }
        }
    }
}

extension GuestRAM {
    fileprivate func storeWord(_ word: UInt64, at offset: Int) {
        storeWord(word, at: UInt64(offset))
    }

    fileprivate func loadWord(at offset: Int) -> UInt64 { loadWord(at: UInt64(offset)) }
}

/// Both ends of a migration in this process.
struct TwoEnds {
    let from: SampleGuest
    let to: SampleGuest
    let source: MigrationSource
    let destination: MigrationDestination

    init(
        megabytes: UInt64 = 4, sends: MigrationOptions = MigrationOptions(),
        receives: MigrationOptions = MigrationOptions()
    ) throws {
        from = try SampleGuest(megabytes: megabytes, isFilled: true)
        from.resume()
        to = try SampleGuest(megabytes: megabytes)
        source = try MigrationSource(guest: from, options: sends)
        destination = try MigrationDestination(guest: to, options: receives)
    }

    /// Starts both; a source without precopy then waits for `startPostcopy`.
    func start() throws {
        let listener = try Listener(at: .tcp(host: "127.0.0.1", port: 0))
        let address = listener.address
        try destination.start(on: listener)
        try source.start(to: address)
    }

    /// Waits for both ends, and holds that the guest is at the destination with all that it had.
    func expectMoved() throws {
        try source.ended().get()
        try destination.ended().get()
        guard !from.isRunning, to.isRunning else { throw Hang() }
        guard to.wrongPages == 0 else { throw WrongPages(count: to.wrongPages) }
    }
}

extension MigrationSource {
    /// Waits for its end, but not for ever.
    func ended() throws -> SourceReport {
        let waiting = try Bounded("source") { Result { try wait() } }
        guard let output = waiting.output(withinSeconds: 60) else { throw Hang() }
        return try output.get()
    }
}

extension MigrationDestination {
    /// Waits for its end, but not for ever.
    func ended() throws -> DestinationReport {
        let waiting = try Bounded("destination") { Result { try wait() } }
        guard let output = waiting.output(withinSeconds: 60) else { throw Hang() }
        return try output.get()
    }

    /// Ends one that was near the switch, and listens for a source that may not know how it ended.
    func endedByCancel() throws -> DestinationReport {
        cancel()
        return try ended()
    }
}

struct Hang: Error {}

struct WrongPages: Error { let count: Int }

/// Waits until a condition holds; answers whether it did in time.
func eventually(withinSeconds seconds: UInt64 = 20, _ condition: () -> Bool) -> Bool {
    let deadline = Monotonic.now() + seconds * 1_000_000_000
    while !condition() {
        guard Monotonic.now() < deadline else { return false }
        sched_yield()
    }
    return true
}

/// The same for a task, which lets others have its thread meanwhile.
func soon(withinSeconds seconds: UInt64 = 20, _ condition: () -> Bool) async -> Bool {
    let deadline = Monotonic.now() + seconds * 1_000_000_000
    while !condition() {
        guard Monotonic.now() < deadline else { return false }
        await Task.yield()
    }
    return true
}
