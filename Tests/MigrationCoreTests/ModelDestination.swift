import MigrationCore
import PageModel

/// The destination's page logic around the real received bitmap and assemblies, one for the background
/// channel and one for the urgent one.
struct ModelDestination: ~Copyable {
    private let block: BlockGeometry
    /// What the guest would read; `nil` faults.
    private(set) var memory: [Int?]
    let received: ReceivedBitmap
    /// How often each host page was placed after the switch.
    private(set) var placings: [Int]
    private var background: HostPageAssembly
    private var urgent: HostPageAssembly
    /// What has come of the host page that each channel collects.
    private var staged: [[Int]]

    init(block: BlockGeometry) {
        self.block = block
        memory = Array(repeating: nil, count: block.targetPageCount)
        received = ReceivedBitmap(block: block)
        placings = Array(repeating: 0, count: block.hostPageCount)
        background = HostPageAssembly(blocks: [block])
        urgent = HostPageAssembly(blocks: [block])
        let empty = Array(repeating: -1, count: block.hostPage.targetPages)
        staged = [empty, empty]
    }

    /// Before the switch memory is simply written: the kernel makes the whole host page present.
    mutating func store(_ version: Int, at page: Int) {
        let hostPage = hostPage(of: page)
        if received.insert(hostPage..<HostPageIndex(rawValue: hostPage.rawValue + 1)) == 1 {
            for other in block.targetPages(of: hostPage) { memory[other] = 0 }
        }
        memory[page] = version
    }

    /// Answers `false` for what a destination refuses: anything but whole host pages.
    mutating func discard(_ pages: Range<Int>) -> Bool {
        let size = block.hostPage.targetPages
        guard pages.lowerBound % size == 0, pages.count % size == 0 else { return false }
        received.remove(
            hostPage(of: pages.lowerBound)..<HostPageIndex(rawValue: pages.upperBound / size))
        for page in pages { memory[page] = nil }
        return true
    }

    /// Takes a target page of a channel; places the host page that it completes.
    mutating func take(
        _ version: Int, at page: Int, isUrgent: Bool
    ) throws(AssemblyError) {
        let offset = RAMOffset(rawValue: UInt64(page) << 12)
        let index = BlockIndex(rawValue: 0)
        let outcome =
            isUrgent
            ? try urgent.add(targetPageInBlock: offset, of: index)
            : try background.add(targetPageInBlock: offset, of: index)
        let channel = isUrgent ? 1 : 0
        switch outcome {
        case .incomplete(let slot): staged[channel][slot >> 12] = version
        case .complete(let whole, let slot):
            staged[channel][slot >> 12] = version
            place(whole.page, staged[channel])
        }
    }

    private mutating func place(_ page: HostPageIndex, _ versions: [Int]) {
        placings[page.rawValue] += 1
        // The kernel answers EEXIST for a page that is present, and keeps what it has.
        guard received.insert(page..<HostPageIndex(rawValue: page.rawValue + 1)) == 1 else {
            return
        }
        for (target, version) in zip(block.targetPages(of: page), versions) {
            memory[target] = version
        }
    }

    private func hostPage(of page: Int) -> HostPageIndex {
        HostPageIndex(rawValue: page / block.hostPage.targetPages)
    }
}
