internal import LinuxKernel
internal import MigrationCore
internal import PageModel
internal import Synchronization

// While the guest runs, and at the moment it is stopped.
extension SourceState {
    /// Takes dirty target pages of a block for sending, at most `countMax`.
    func takeRun(of block: Int, from page: Int, countMax: Int) -> Range<Int>? {
        guard let run = dirty[block].takeRun(from: page, countMax: countMax) else { return nil }
        owed.remaining.subtract(run.count, ordering: .relaxed)
        return run
    }

    /// Marks what the guest wrote since the last sync; answers how many pages became dirty.
    func syncDirty(_ precopy: Precopy) throws(Errno) -> Int {
        let count = try precopy.sync(into: dirty)
        owed.remaining.add(count, ordering: .relaxed)
        return count
    }

    /// Takes pages that nobody needs out of what is to be sent.
    func hint(free pages: Range<Int>, of block: BlockIndex) throws(Errno) {
        guard let precopy, !list.isIgnored(blocks[block.rawValue]) else { return }
        let count = try precopy.hint(free: pages, of: block, in: dirty[block.rawValue])
        owed.remaining.subtract(count, ordering: .relaxed)
    }

    /// Learns, with the guest stopped, all that is owed. A page that was given up and never sent is
    /// owed too, since the destination would wait for it; it is sent as zeros.
    ///
    /// - Parameter isTracked: whether the precopy ever began; if not, everything is dirty.
    /// - Returns: how many pages the last sync found dirty.
    func settleDirty(_ precopy: Precopy, isTracked: Bool) throws(Errno) -> Int {
        precopy.closeHints()
        let dirtied = isTracked ? try syncDirty(precopy) : 0
        var count = 0
        for (dirty, sent) in zip(dirty, precopy.sent) { count += dirty.insertUnsent(sent) }
        owed.remaining.add(count, ordering: .relaxed)
        return dirtied
    }

    /// Keeps one host page back where all were sent. A QEMU (7.2) that hears LISTEN without a DISCARD
    /// before it takes itself for discarding afterwards, and refuses RUN.
    ///
    /// The last page of a block of small pages: of all pages one that the guest may miss least.
    /// Source: `loadvm_postcopy_handle_listen`, `postcopy_ram_prepare_discard` (`migration/savevm.c`,
    /// `postcopy-ram.c`).
    func oweOnePage() {
        let smallest = list.sent.min { $0.ram.geometry.hostPage < $1.ram.geometry.hostPage }
        guard let (block, ram) = smallest else { return }
        let page = HostPageIndex(rawValue: ram.usedHostPages - 1)
        let count = dirty[block.rawValue].insert(ram.geometry.targetPages(of: page))
        owed.remaining.add(count, ordering: .relaxed)
    }

    /// Makes host pages that were sent or dirtied in part dirty as a whole: they are placed as one.
    func canonicalize(_ precopy: Precopy) {
        var count = 0
        for (dirty, sent) in zip(dirty, precopy.sent) { count += dirty.canonicalize(sent: sent) }
        owed.remaining.add(count, ordering: .relaxed)
    }
}
