/// Guest memory under a tracker of writes, as a model: the number of the last write for each target
/// page.
///
/// A write is noted only in a page that is armed, and disarms it, as a write protection does: the
/// strictest tracker that `DirtyTracker` allows.
struct TrackedMemory {
    /// 0 is a page of zeros.
    private(set) var versions: [Int]
    /// Whether the guest cares for the page: it does not between a hint that it is free and the next
    /// write.
    private(set) var isNeeded: [Bool]
    private var isArmed: [Bool]
    private var isNoted: [Bool]
    private var writeCount = 0

    /// Some memory, written before tracking began, with every page armed.
    init(pageCount: Int) {
        versions = Array(1...pageCount)
        writeCount = pageCount
        isNeeded = Array(repeating: true, count: pageCount)
        isArmed = isNeeded
        isNoted = Array(repeating: false, count: pageCount)
    }

    mutating func write(_ page: Int) {
        writeCount += 1
        versions[page] = writeCount
        isNeeded[page] = true
        guard isArmed[page] else { return }
        isNoted[page] = true
        isArmed[page] = false
    }

    mutating func free(_ pages: Range<Int>) {
        for page in pages { isNeeded[page] = false }
    }

    /// `DirtyTracker.clear`.
    mutating func clear(_ pages: Range<Int>) {
        for page in pages {
            isArmed[page] = true
            isNoted[page] = false
        }
    }

    /// One page's part of `DirtyTracker.sync`.
    mutating func takeNote(of page: Int) -> Bool {
        defer { isNoted[page] = false }
        return isNoted[page]
    }
}
