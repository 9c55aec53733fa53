internal import Parking
internal import Postcopy

/// What clients are served from, and what must be seen to meanwhile.
protocol PageSource: Sendable {
    var content: JoinedContent { get }
    /// What became of a machine that comes over the network.
    var figures: ArrivalFigures? { get }
    /// Whether threads are left that cannot be waited for.
    var isStuck: Bool { get }
    var machinePlace: MachinePlace { get }
    /// Looks after it, often; answers why nobody can be served any more.
    func look() -> String?
    /// Has what has not begun to move stay where it is.
    func cancel()
    /// Ends what still comes, for nobody needs it, and lets reads go that wait for it.
    func giveUp()
    /// Ends it, once nobody is served.
    /// - Parameter hasServed: whether anybody was.
    func end(hasServed: Bool)
}

/// Where the machine is whose pages are served.
enum MachinePlace {
    /// In files, with its source, or lost: it does not depend on this process.
    case elsewhere
    /// It may leave its source at any time.
    case onItsWay
    /// Nowhere else.
    case here
}

extension PageSource {
    var machinePlace: MachinePlace { .elsewhere }
    var figures: ArrivalFigures? { nil }
    var isStuck: Bool { false }
    func look() -> String? { nil }
    func cancel() {}
    func giveUp() {}
    func end(hasServed: Bool) {}
}

/// The blocks of some memory, one behind the other: what offsets of a client count in.
struct JoinedContent: Sendable {
    enum Kind: String, Sendable {
        case memoryFile = "memory-file"
        case park
        case from
    }

    let kind: Kind
    /// A path or a URI.
    let place: String
    let lengthBytes: UInt64
    private let pages: any PageProvider
    /// Where each block begins, in order.
    private let starts: [UInt64]
    /// Whether all of it can be read without waiting for anybody else.
    let isWhole: @Sendable () -> Bool

    /// - Parameter lengths: of the provider's blocks.
    init(
        _ kind: Kind, at place: String, pages: any PageProvider, lengths: [UInt64],
        isWhole: @escaping @Sendable () -> Bool = { true }
    ) {
        self.kind = kind
        self.place = place
        self.pages = pages
        self.isWhole = isWhole
        var starts: [UInt64] = []
        var end: UInt64 = 0
        for length in lengths {
            starts.append(end)
            end += length
        }
        self.starts = starts
        lengthBytes = end
    }

    var description: String {
        let size = Readable.bytes(lengthBytes)
        return switch kind {
        case .memoryFile: "\(size) of \(place)"
        case .park: "\(size) of the machine parked in \(place)"
        case .from: "\(size) of the machine that comes to \(place)"
        }
    }

    /// Fills `bytes` with the content from `offset` on, as `PageProvider.read` does.
    /// - Precondition: so many bytes are there.
    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: UInt64
    ) throws(PageProviderError) -> PageContent {
        let first = block(at: offset)
        let end = offset + UInt64(bytes.count)
        guard first + 1 < starts.count, starts[first + 1] < end else {
            return try pages.read(
                &bytes, at: RAMOffset(rawValue: offset - starts[first]),
                of: BlockIndex(rawValue: first))
        }
        return try readAcross(&bytes, at: offset)
    }

    /// A larger page of the client may reach over the end of a block.
    private func readAcross(
        _ bytes: inout MutableSpan<UInt8>, at offset: UInt64
    ) throws(PageProviderError) -> PageContent {
        var whole = PageContent.zeros
        var done = 0
        while done < bytes.count {
            let block = block(at: offset + UInt64(done))
            let start = offset + UInt64(done) - starts[block]
            let next = block + 1 < starts.count ? starts[block + 1] : lengthBytes
            let end = min(bytes.count, Int(next - offset))
            var part = [UInt8](repeating: 0, count: end - done)
            var span = part.mutableSpan
            let found = try pages.read(
                &span, at: RAMOffset(rawValue: start), of: BlockIndex(rawValue: block))
            if found == .bytes { whole = .bytes }
            for index in part.indices { bytes[done + index] = found == .bytes ? part[index] : 0 }
            done = end
        }
        return whole
    }

    private func block(at offset: UInt64) -> Int {
        var (lower, upper) = (0, starts.count)
        while upper - lower > 1 {
            let middle = (lower + upper) / 2
            if starts[middle] <= offset { lower = middle } else { upper = middle }
        }
        return lower
    }
}

/// The content of one client's regions.
struct RegionPages: PageProvider {
    let content: JoinedContent
    /// Where the content of each region begins.
    let offsets: [UInt64]

    func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        try content.read(&bytes, at: offsets[block.rawValue] + offset.rawValue)
    }
}
