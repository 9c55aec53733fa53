internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

/// What a source keeps for its precopy, beside the dirty bitmaps.
final class Precopy: Sendable {
    let options: PrecopyOptions
    let tracker: any DirtyTracker
    private let ignored: Set<BlockIndex>
    /// Target pages of each block that were sent at least once, or never will be.
    let sent: [PageBitmap]
    /// Target pages of each block that the guest gave up and has not written since.
    private let free: [PageBitmap]
    private let hints = Mutex(Hints.early)
    /// Whether any page was ever given up. Relaxed: set before the bits, read after a sync.
    private let hasFreePages = Atomic(false)
    private let current = Mutex(PrecopyProgress())

    /// A hint counts only while writes are tracked: before, the guest could take a page again unseen;
    /// afterwards the bitmaps are settled.
    private enum Hints { case early, accepted, closed }

    /// - Throws: `TrackerRefusal`.
    init(guest: any Guest, list: BlockList, options: PrecopyOptions) throws {
        self.options = options
        ignored = list.ignored
        tracker = try guest.makeDirtyTracker(ignoring: ignored)
        try tracker.check()
        sent = guest.memory.map { ram in
            PageBitmap(pageCount: ram.geometry.targetPageCount, allSet: list.isIgnored(ram))
        }
        free = guest.memory.map { ram in
            PageBitmap(pageCount: ram.geometry.targetPageCount, allSet: false)
        }
    }

    /// Notes that a block is `end` target pages long, of which those from `gained` on are new.
    func noteLength(of block: BlockIndex, gained: Int, end: Int) {
        let sent = sent[block.rawValue]
        sent.remove(gained..<end)
        sent.insert(end..<sent.pageCount)
    }

    var progress: PrecopyProgress { current.withLock { $0 } }

    func publish(_ progress: PrecopyProgress) { current.withLock { $0 = progress } }

    /// Whether nobody needs the content of a page.
    func isFree(_ page: Int, of block: BlockIndex) -> Bool {
        hasFreePages.load(ordering: .relaxed) && free[block.rawValue].contains(page)
    }

    /// Marks what the guest wrote since the last sync; answers how many pages became dirty.
    func sync(into dirty: [DirtyBitmap]) throws(Errno) -> Int {
        var count = 0
        for (index, bitmap) in dirty.enumerated()
        where !ignored.contains(BlockIndex(rawValue: index)) {
            count += try tracker.sync(BlockIndex(rawValue: index), into: bitmap)
            // A page that was written is not free any more.
            if hasFreePages.load(ordering: .relaxed) { bitmap.subtract(from: free[index]) }
        }
        return count
    }

    /// Takes the content of pages that nobody needs out of what is to be sent; answers how many pages
    /// were dirty and are not any more. One that was never sent stays dirty, and goes as zeros: the
    /// destination would wait for it.
    ///
    /// The guest must not write the pages before this returns. The tracker forgets first: a write that
    /// comes later is seen by it, and one that came before must not bring the page back.
    func hint(
        free pages: Range<Int>, of block: BlockIndex, in dirty: DirtyBitmap
    ) throws(Errno) -> Int {
        // The lock lets no hint reach into the moment in which the bitmaps are settled.
        try hints.withLock { hints throws(Errno) in
            guard hints == .accepted else { return 0 }
            try tracker.forget(block, pages)
            hasFreePages.store(true, ordering: .relaxed)
            free[block.rawValue].insert(pages)
            let sent = sent[block.rawValue]
            var count = 0
            var page = pages.lowerBound
            while let run = sent.nextRun(from: page), run.lowerBound < pages.upperBound {
                count += dirty.remove(run.clamped(to: pages))
                page = run.upperBound
            }
            return count
        }
    }

    /// Begins to track.
    func start() throws(TrackerRefusal) {
        try tracker.start()
        hints.withLock { $0 = .accepted }
    }

    /// From here on the dirty bitmaps change by claims alone.
    func closeHints() { hints.withLock { $0 = .closed } }
}
