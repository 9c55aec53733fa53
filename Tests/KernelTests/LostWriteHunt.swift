import Glibc
import LinuxKernel
import PageModel
import Synchronization
import TestSupport
import Testing

/// A precopy without a network: threads write a block at full speed while one thread syncs and
/// another sends what is dirty into a copy. Once the writers have stopped, the copy must be the
/// block.
///
/// A lost write shows only when no later one hides it, so the writers stop often: in each of many
/// rounds every page has its last write somewhere between two syncs.
final class LostWriteHunt: Sendable {
    private let tracker: any DirtyTracker
    private let ram: GuestRAM
    private let copy: GuestRAM
    private let dirty: DirtyBitmap
    /// Told after each write.
    private let wrote: @Sendable (Int) -> Void
    /// Whether the sender reads a page before it clears it, which is what the contract forbids.
    private let clearsLate: Bool

    private let isWriting = Atomic(false)
    private let isSending = Atomic(false)

    private static let block = BlockIndex(rawValue: 0)
    private static let syncsPerRound = 20
    private static let writerCount = 2

    /// Where words are written in a target page: at its ends and amid.
    private static let places: [UInt64] = [0, 2048, PageSize.target.bytes - 8]

    init(
        _ tracker: any DirtyTracker, on ram: GuestRAM, clearsLate: Bool = false,
        wrote: @escaping @Sendable (Int) -> Void = { _ in }
    ) throws {
        self.tracker = tracker
        self.ram = ram
        self.clearsLate = clearsLate
        self.wrote = wrote
        let length = UInt64(ram.geometry.targetPageCount) * PageSize.target.bytes
        copy = try TrackedMemory.ram(.anonymous, named: "copy", bytes: length)
        dirty = DirtyBitmap(block: ram.geometry, allDirty: true)
    }

    /// - Returns: how many pages of the copy were stale at the end of the first round that had any,
    ///   and how many syncs there were.
    func run(rounds: Int) throws -> (stalePages: Int, syncs: Int) {
        let deadline = Monotonic.now() + HostUnderTest.patienceNanoseconds
        try tracker.start()
        defer { tracker.stop() }
        var syncs = 0
        for round in 0..<rounds where Monotonic.now() < deadline {
            try meet(round: UInt64(round))
            syncs += Self.syncsPerRound + 1
            let stale = (0..<ram.geometry.targetPageCount).count { !isCopied($0) }
            if stale > 0 { return (stale, syncs) }
        }
        return (0, syncs)
    }

    private func meet(round: UInt64) throws {
        isWriting.store(true, ordering: .relaxed)
        isSending.store(true, ordering: .relaxed)
        let writers = try (0..<Self.writerCount).map { index in
            let seed = round << 8 | UInt64(index)
            return Joined(try JoinableThread(name: "writer") { self.write(seed: seed) })
        }
        let sender = try JoinableThread(name: "sender") { self.send() }
        let syncer = try JoinableThread(name: "syncer") { self.sync() }
        let syncFailure = syncer.join()
        isWriting.store(false, ordering: .relaxed)
        for writer in writers { writer.join() }
        isSending.store(false, ordering: .relaxed)
        let sendFailure = sender.join()
        #expect(syncFailure == nil && sendFailure == nil)
        _ = try tracker.sync(Self.block, into: dirty)
        while try sendRun(from: 0) != nil {}
    }

    private func write(seed: UInt64) {
        preferShortSlices()
        var random = SeededRandom(seed: seed)
        while isWriting.load(ordering: .relaxed) {
            let page = random.below(ram.geometry.targetPageCount)
            let place = Self.places[random.below(Self.places.count)]
            ram.storeWord(random.next(), at: UInt64(page) * PageSize.target.bytes + place)
            wrote(page)
        }
    }

    private func sync() -> Errno? {
        preferShortSlices()
        do throws(Errno) {
            for _ in 0..<Self.syncsPerRound { _ = try tracker.sync(Self.block, into: dirty) }
        } catch { return error }
        return nil
    }

    private func send() -> Errno? {
        preferShortSlices()
        var from = 0
        do throws(Errno) {
            while isSending.load(ordering: .relaxed) {
                from = try sendRun(from: from) ?? 0
                if from == 0 { sched_yield() }
            }
        } catch { return error }
        return nil
    }

    /// Sends the next dirty run and answers its end; `nil` when there is none.
    private func sendRun(from: Int) throws(Errno) -> Int? {
        guard let run = dirty.takeRun(from: from, countMax: 64) else { return nil }
        if !clearsLate { try tracker.clear(Self.block, run) }
        for page in run {
            for offset in Self.offsets(in: page) {
                copy.storeWord(ram.loadWord(at: offset), at: offset)
            }
        }
        if clearsLate { try tracker.forget(Self.block, run) }
        return run.upperBound
    }

    private func isCopied(_ page: Int) -> Bool {
        Self.offsets(in: page).allSatisfy { ram.loadWord(at: $0) == copy.loadWord(at: $0) }
    }

    private static func offsets(in page: Int) -> [UInt64] {
        places.map { UInt64(page) * PageSize.target.bytes + $0 }
    }
}

/// A tracker with a planted bug: what every third `sync` finds is lost.
final class LossyTracker: DirtyTracker {
    private let honest: any DirtyTracker
    private let lost: DirtyBitmap
    private let syncs = Atomic(0)

    init(_ honest: any DirtyTracker, of block: BlockGeometry) {
        self.honest = honest
        lost = DirtyBitmap(block: block, allDirty: false)
    }

    func check() throws(TrackerRefusal) { try honest.check() }
    func start() throws(TrackerRefusal) { try honest.start() }
    func stop() { honest.stop() }

    func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        let count = syncs.add(1, ordering: .relaxed).newValue
        return try honest.sync(block, into: count % 3 == 0 ? lost : dirty)
    }

    func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try honest.clear(block, pages)
    }

    func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try honest.forget(block, pages)
    }
}
