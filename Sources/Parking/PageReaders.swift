public import Postcopy
internal import Synchronization

/// Threads that read a machine's memory while it arrives, every page once and in random order: in place
/// of vCPUs, they show how long somebody waits for a page.
///
/// `finish` must come before the last reference goes: a thread left running traps.
public final class PageReaders: Sendable {
    private let readers: [Reader]
    /// Raised once they may read, for good.
    private let gate: EventFlag
    private let memory: [GuestRAM]
    private let lostMemory = Mutex<[LostMemoryWatch]>([])

    /// More than the vCPUs of most machines; each is a thread.
    public static let countMax = 256

    /// Starts the threads, which read nothing before `begin`.
    /// - Precondition: 1 to `countMax` of them.
    /// - Throws: `Errno` when the process may have no more threads or descriptors.
    public init(of machine: ParkedMachine, count: Int) throws(Errno) {
        precondition((1...Self.countMax).contains(count))
        gate = try EventFlag()
        memory = machine.memory
        var readers: [Reader] = []
        for _ in 0..<count {
            do throws(Errno) {
                readers.append(try Reader(memory: machine.memory, gate: gate))
            } catch {
                Self.end(readers, gate)
                throw error
            }
        }
        self.readers = readers
    }

    /// The kernel's ids of the threads.
    public var threadIDs: [Int32] { readers.map(\.threadID) }

    /// Lets them read.
    public func begin() { gate.raise() }

    /// Tells them to end, and has those that wait for a page find zeros: none comes any more.
    public func memoryLost() {
        for reader in readers { reader.stop() }
        // Without a watch the process ends at the first page that is touched, as it must.
        let watches = memory.compactMap { try? LostMemoryWatch($0) }
        lostMemory.withLock { $0 = watches }
    }

    /// Ends them, once none waits for a page any more.
    public func finish() { Self.end(readers, gate) }

    private static func end(_ readers: [Reader], _ gate: EventFlag) {
        for reader in readers { reader.stop() }
        gate.raise()
        for reader in readers { reader.join() }
    }
}

/// One thread that reads.
private final class Reader: Sendable {
    /// Relaxed: who sees it late reads a page more.
    private let isStopped: Flag
    private let thread: Mutex<JoinableThread<Void>?>
    let threadID: Int32

    private final class Flag: Sendable {
        let value = Atomic(false)
        let id = Atomic<Int32>(0)
        let sum = Atomic<UInt64>(0)
    }

    init(memory: [GuestRAM], gate: EventFlag) throws(Errno) {
        let flag = Flag()
        let started = try EventFlag()
        let thread = try JoinableThread<Void>(name: "pc-reader") {
            flag.id.store(currentThreadID(), ordering: .relaxed)
            LostMemoryWatch.admit()
            started.raise()
            gate.wait()
            Self.read(memory, until: flag)
        }
        started.wait()
        threadID = flag.id.load(ordering: .relaxed)
        isStopped = flag
        self.thread = Mutex(thread)
    }

    private static func read(_ memory: [GuestRAM], until stopped: Flag) {
        let page = PageSize.target.bytes
        var places: [(block: Int, offset: UInt64)] = []
        for (index, ram) in memory.enumerated() {
            for offset in stride(from: 0, to: ram.usedBytes, by: Int(page)) {
                places.append((index, offset))
            }
        }
        var sum: UInt64 = 0
        for place in places.shuffled() where !stopped.value.load(ordering: .relaxed) {
            sum &+= memory[place.block].loadWord(at: place.offset)
        }
        // What nobody uses would not be read.
        stopped.sum.store(sum, ordering: .relaxed)
    }

    func stop() { isStopped.value.store(true, ordering: .relaxed) }

    func join() {
        let thread = thread.withLock { $0.take() }
        switch consume thread {
        case .some(let thread): thread.join()
        case .none: break
        }
    }
}
