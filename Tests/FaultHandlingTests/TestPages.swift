import FaultHandling
import LinuxKernel
import PageModel
import Synchronization

/// Pages whose content can be computed, and a record of who asked for them.
final class TestPages: PageProvider {
    /// What happens when pages are read; called before anything is answered.
    typealias Hook = @Sendable (_ page: HostPage) throws(PageProviderError) -> PageContent?

    struct Record: Sendable {
        var reads: [HostPage] = []
        /// Reads of the same page that were under way at once.
        var overlaps = 0
        /// Bytes asked for at once.
        var bytesMax = 0
        fileprivate var underWay: Set<HostPage> = []
    }

    private let blocks: [BlockGeometry]
    private let hook: Hook
    private let state = Mutex(Record())

    init(_ blocks: [BlockGeometry], hook: @escaping Hook = { _ in nil }) {
        self.blocks = blocks
        self.hook = hook
    }

    convenience init(_ memory: [GuestRAM], hook: @escaping Hook = { _ in nil }) {
        self.init(memory.map(\.geometry), hook: hook)
    }

    var record: Record { state.withLock { $0 } }

    /// The word at `offset`, of which a page has one at its start and one at its end; never zero.
    static func word(_ block: Int, _ offset: UInt64) -> UInt64 {
        (UInt64(block + 1) << 56 | offset) &* 0x9E37_79B9_7F4A_7C15 | 1
    }

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        let geometry = blocks[block.rawValue]
        let first = geometry.hostPage(containing: offset)
        let count = bytes.count >> geometry.hostPage.shift
        precondition(geometry.offset(of: first) == offset, "whole host pages")
        precondition(count << geometry.hostPage.shift == bytes.count && count > 0)
        let pages = (0..<count).map {
            HostPage(block: block, page: HostPageIndex(rawValue: first.rawValue + $0))
        }
        begin(pages, bytes.count)
        defer { state.withLock { $0.underWay.subtract(pages) } }
        for page in pages {
            if let content = try hook(page) { return content }
        }
        for index in bytes.indices { bytes[index] = 0 }
        for start in stride(from: 0, to: bytes.count, by: 4096) {
            for place in [start, start + 4088] {
                let word = Self.word(block.rawValue, offset.rawValue + UInt64(place))
                for byte in 0..<8 {
                    bytes[place + byte] = UInt8(truncatingIfNeeded: word >> UInt64(byte * 8))
                }
            }
        }
        return .bytes
    }

    private func begin(_ pages: [HostPage], _ byteCount: Int) {
        state.withLock { record in
            record.reads += pages
            record.overlaps += pages.count { record.underWay.contains($0) }
            record.underWay.formUnion(pages)
            record.bytesMax = max(record.bytesMax, byteCount)
        }
    }
}

/// A place where threads wait until a test lets them go on.
final class Barrier: Sendable {
    /// Threads that have not come yet.
    private let awaited: Mutex<Int>
    private let reached: EventFlag
    private let opened: EventFlag
    private let patience: UInt64 = 20_000_000_000

    /// - Parameter count: as many threads make it reached.
    init(count: Int = 1) throws {
        awaited = Mutex(count)
        reached = try EventFlag()
        opened = try EventFlag()
    }

    /// Waits here until `open`; answers `false` when that never happens.
    @discardableResult
    func pass() -> Bool {
        let isLast = awaited.withLock { awaited in
            awaited -= 1
            return awaited <= 0
        }
        if isLast { reached.raise() }
        return opened.wait(timeoutNanoseconds: patience)
    }

    /// Whether as many as are due are here, or come in time.
    func isReached() -> Bool { reached.wait(timeoutNanoseconds: patience) }

    /// Whether nobody is here yet.
    var isEmpty: Bool { !reached.wait(timeoutNanoseconds: 0) }

    func open() { opened.raise() }
}
