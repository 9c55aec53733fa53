public import PageModel

/// The order in which pages of some memory were first needed: recorded by one run, and prefetched by
/// another.
public struct FaultTrace: Equatable, Sendable {
    /// The memory it is of.
    public let blocks: [BlockGeometry]
    /// Each page at most once.
    public let pages: [HostPage]

    /// - Throws: `FaultTraceError.pageOutside` or `.pageRepeated`.
    public init(of blocks: [BlockGeometry], pages: [HostPage]) throws(FaultTraceError) {
        // As large as the pages that are named, whatever the blocks are said to be.
        var seen: Set<HostPage> = []
        for (index, page) in pages.enumerated() {
            guard blocks.indices.contains(page.block.rawValue),
                blocks[page.block.rawValue].hostPages.contains(page.page)
            else { throw .pageOutside(entry: index) }
            guard seen.insert(page).inserted else { throw .pageRepeated(entry: index) }
        }
        self.init(checked: blocks, pages: pages)
    }

    /// Of pages that are known to be in the memory, each once.
    init(checked blocks: [BlockGeometry], pages: [HostPage]) {
        self.blocks = blocks
        self.pages = pages
    }

    /// Refuses to be taken for a trace of other memory.
    func checkMemory(_ memory: [BlockGeometry]) throws(FaultTraceError) {
        guard blocks.count == memory.count else {
            throw .otherMemory("it has \(blocks.count) blocks, the memory \(memory.count)")
        }
        for (traced, served) in zip(blocks, memory) where traced != served {
            throw .otherMemory(
                "its block '\(traced.name)' has \(traced.lengthBytes) bytes in pages of "
                    + "\(traced.hostPage.bytes), the memory's '\(served.name)' "
                    + "\(served.lengthBytes) in pages of \(served.hostPage.bytes)")
        }
    }
}

/// Why a trace is of no use.
public enum FaultTraceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It was recorded of other blocks.
    case otherMemory(String)
    /// A page that its block does not have.
    case pageOutside(entry: Int)
    /// A page that stands in it twice.
    case pageRepeated(entry: Int)
    /// A file that holds no trace, or not all of one.
    case file(path: String, String)

    public var description: String {
        switch self {
        case .otherMemory(let difference): "the trace is of other memory: \(difference)"
        case .pageOutside(let entry): "entry \(entry) of the trace is outside of its memory"
        case .pageRepeated(let entry): "entry \(entry) of the trace names a page again"
        case .file(let path, let problem): "trace '\(path)': \(problem)"
        }
    }
}
