import PageModel
import TestSupport

/// The source's page logic around the real bitmaps: one sender, one thread that syncs and takes hints,
/// and a guest that writes between any two of their steps.
struct ModelSource {
    private(set) var memory: TrackedMemory
    let dirty: DirtyBitmap
    private let sent: PageBitmap
    /// Hinted free, and not written since as far as the last sync knows.
    private var isFree: [Bool]
    private var random: SeededRandom
    /// Writes go to these pages most of the time.
    private let hotPages: Range<Int>
    /// Hinted and not yet handled: the guest does not use them before that.
    private var heldPages = 0..<0
    private var isGuestStopped = false

    init(block: BlockGeometry, seed: UInt64) {
        let pageCount = block.targetPageCount
        random = SeededRandom(seed: seed)
        memory = TrackedMemory(pageCount: pageCount)
        dirty = DirtyBitmap(block: block, allDirty: true)
        sent = PageBitmap(pageCount: pageCount, allSet: false)
        isFree = Array(repeating: false, count: pageCount)
        hotPages = random.range(in: pageCount)
    }

    /// What one round of precopy does: mostly sending.
    mutating func precopyStep(to destination: inout ModelDestination) {
        switch random.below(8) {
        case 0: sync()
        case 1: takeHint()
        default: sendRun(to: &destination)
        }
    }

    /// Stops the guest; afterwards the dirty pages are what is owed, and `dirty` is canonical.
    mutating func stopGuest() {
        isGuestStopped = true
        sync()
        dirty.canonicalize(sent: sent)
    }

    /// What is sent for a page after the switch.
    func content(of page: Int) -> Int {
        isFree[page] && !sent.contains(page) ? 0 : memory.versions[page]
    }

    private mutating func sendRun(to destination: inout ModelDestination) {
        let start = random.below(memory.versions.count)
        guard let run = dirty.takeRun(from: start, countMax: 1 + random.below(64)) else { return }
        interrupt(bySync: true)
        sent.insert(run)
        interrupt(bySync: true)
        memory.clear(run)
        for page in run {
            interrupt(bySync: true)
            destination.store(memory.versions[page], at: page)
        }
    }

    private mutating func sync() {
        for page in memory.versions.indices where memory.takeNote(of: page) {
            interrupt(bySync: false)
            dirty.insert(page..<page + 1)
            isFree[page] = false
        }
    }

    /// A free-page hint: only pages never sent may be skipped, and only once writes to them show.
    private mutating func takeHint() {
        let start = random.below(memory.versions.count)
        let hinted = start..<min(start + 1 + random.below(100), memory.versions.count)
        memory.free(hinted)
        heldPages = hinted
        interrupt(bySync: false)
        memory.clear(hinted)
        interrupt(bySync: false)
        for page in hinted where !sent.contains(page) {
            dirty.remove(page..<page + 1)
            isFree[page] = true
        }
        heldPages = 0..<0
    }

    /// What other threads do between two steps of this one.
    private mutating func interrupt(bySync: Bool) {
        guard !isGuestStopped else { return }
        switch random.below(40) {
        case 0..<12:
            let isHot = !hotPages.isEmpty && random.below(4) > 0
            let pages = isHot ? hotPages : memory.versions.indices
            let page = pages.lowerBound + random.below(pages.count)
            if !heldPages.contains(page) { memory.write(page) }
        case 12 where bySync: sync()
        case 13 where bySync: takeHint()
        default: break
        }
    }
}
