internal import CPostcopy
internal import Postcopy

/// Functions of C that have pages, and that are told what became of them.
@safe
final class CallbackPages: PageProvider, @unchecked Sendable {
    // SAFETY: `callbacks` is never changed; what its functions and its context mean, and that they
    // stay valid, is the embedder's word (postcopy.h).
    private let callbacks: postcopy_faults_options
    let callers = CallbackThreads()

    private let blocks: [BlockGeometry]

    /// - Parameter blocks: what the numbers of blocks mean.
    init(_ callbacks: postcopy_faults_options, of blocks: [BlockGeometry]) {
        unsafe self.callbacks = callbacks
        self.blocks = blocks
    }

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        guard let read = unsafe callbacks.read else {
            throw PageProviderError("no callback reads pages")
        }
        let (answer, reason) = unsafe bytes.withUnsafeMutableBytes { target in
            callers.calling {
                unsafe askingWhy { why in
                    unsafe read(
                        callbacks.context, UInt32(block.rawValue), offset.rawValue,
                        target.baseAddress, target.count, why)
                }
            }
        }
        switch Int(answer) {
        case POSTCOPY_PAGES_FILLED: return .bytes
        case POSTCOPY_PAGES_ZERO: return .zeros
        default: throw PageProviderError(reason ?? "the callback read answered \(answer)")
        }
    }

    func tell(_ page: LostPage) {
        guard let tell = unsafe callbacks.page_lost else { return }
        let problem = OwnedText(page.problem)
        let offset = page.page.map { blocks[$0.block.rawValue].offset(of: $0.page).rawValue }
        var row = unsafe postcopy_lost_page(
            block: page.page.map { UInt32($0.block.rawValue) } ?? .max,
            outcome: page.outcome.number, offset: offset ?? 0, address: page.address.rawValue,
            problem: problem.pointer)
        callers.calling { unsafe tell(callbacks.context, &row) }
    }

    func tell(_ error: FaultHandlerError) {
        guard let tell = unsafe callbacks.ended else { return }
        let problem = OwnedText("\(error)")
        callers.calling { unsafe tell(callbacks.context, problem.pointer) }
    }
}

extension LostPage.Outcome {
    /// The number that C knows it by.
    fileprivate var number: UInt32 {
        switch self {
        case .poisoned: UInt32(POSTCOPY_PAGE_POISONED)
        case .zeros: UInt32(POSTCOPY_PAGE_READS_ZERO)
        case .waits: UInt32(POSTCOPY_PAGE_WAITS)
        }
    }
}
