internal import LinuxKernel
internal import PageModel
internal import Synchronization

/// Gives the source's memory back as it is sent (QEMU's `release-ram`), whole host pages at a time and
/// many in one call. One thread owns it.
///
/// Only from the commit on: before it the destination may still hand the guest back.
/// Source: `ram_release_page` (`migration/ram.c`).
struct MemoryRelease: ~Copyable {
    private let state: SourceState
    /// Appended to a write that is not done yet.
    private var appended: [(block: BlockIndex, pages: Range<Int>)] = []
    private var block = BlockIndex(rawValue: 0)
    /// Target pages of `block` that a socket has taken and that are not given back yet.
    private var pages = 0..<0

    /// A call costs some 1 us and a page 0.1: 1 MiB makes the call cheap and keeps little waiting.
    private static let pagesMax = 256

    init(state: SourceState) { self.state = state }

    /// Notes pages that the next write takes.
    mutating func append(_ pages: Range<Int>, of block: BlockIndex) {
        if state.options.releasesRAM { appended.append((block, pages)) }
    }

    /// Notes that the write is done: a socket has copied what it took.
    mutating func noteWritten() {
        for (block, pages) in appended { add(pages, of: block) }
        appended.removeAll(keepingCapacity: true)
    }

    private mutating func add(_ sent: Range<Int>, of block: BlockIndex) {
        if block != self.block || sent.lowerBound != pages.upperBound {
            release()
            self.block = block
            pages = sent
        } else {
            pages = pages.lowerBound..<sent.upperBound
        }
        if pages.count >= Self.pagesMax { release() }
    }

    /// Gives back the whole host pages among those noted; a part of one waits for the rest.
    mutating func release() {
        guard state.isCommitted.load(ordering: .acquiring) else {
            pages = pages.upperBound..<pages.upperBound
            return
        }
        let ram = state.blocks[block.rawValue]
        let count = ram.geometry.hostPage.targetPages
        let first = (pages.lowerBound + count - 1) / count * count
        let end = pages.upperBound / count * count
        guard first < end else { return }
        let length = UInt64(end - first) << UInt64(PageSize.target.shift)
        let start = RAMOffset(rawValue: UInt64(first) << UInt64(PageSize.target.shift))
        // A page that stays costs memory and nothing else.
        if (try? ram.drop(from: start, lengthBytes: length)) != nil {
            state.counters.releasedBytes.add(length, ordering: .relaxed)
        }
        pages = end..<pages.upperBound
    }
}
