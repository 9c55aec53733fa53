internal import Glibc
internal import PageModel

/// What the kernel says of a range of this process's addresses (`/proc/self/smaps`), which one kind of
/// mapping covers without a hole.
struct MappedRange {
    /// What is wrong with a range, and where that begins.
    struct Refusal: Error {
        let problem: MappingProblem
        let address: UInt64

        func named(_ geometry: BlockGeometry) -> RAMError {
            .givenMapping(block: geometry.name, problem, atAddress: address)
        }
    }

    /// One mapping, as far as it matters here.
    struct Mapping: Equatable {
        var isReadableAndWritable = false
        var isShared = false
        /// Whether pages that nobody wrote come from a file.
        var isFile = false
        var pageBytes: UInt64 = 0
    }

    private let mapping: Mapping

    /// What lies where a block is to be.
    static func whole(
        of geometry: BlockGeometry, at address: HostAddress
    ) throws(RAMError) -> MappedRange {
        let (end, overflow) = address.rawValue.addingReportingOverflow(geometry.lengthBytes)
        guard !overflow else {
            throw .givenMapping(block: geometry.name, .nothing, atAddress: address.rawValue)
        }
        do throws(Refusal) {
            return try MappedRange(address..<HostAddress(rawValue: end))
        } catch { throw error.named(geometry) }
    }

    private init(_ addresses: Range<HostAddress>) throws(Refusal) {
        let (start, end) = (addresses.lowerBound.rawValue, addresses.upperBound.rawValue)
        var found: Mapping?
        var next = start
        let isRead = SmapsReader.forEach { range, mapping throws(Refusal) in
            guard range.upperBound > next else { return true }
            // They come in order: a mapping that begins later leaves a hole.
            guard range.lowerBound <= next else { return false }
            guard found == nil || found == mapping else {
                throw Refusal(problem: .mixed, address: next)
            }
            found = mapping
            next = range.upperBound
            return next < end
        }
        if case .failure(let refusal) = isRead { throw refusal }
        guard let found, next >= end else { throw Refusal(problem: .nothing, address: next) }
        mapping = found
    }

    var backing: RAMBacking {
        if mapping.pageBytes > HostMemory.pageSize.bytes { return .hugetlb }
        return mapping.isShared ? .memfd : .anonymous
    }

    var origin: RAMOrigin {
        mapping.isFile && !mapping.isShared ? .fileContent : .given(isShared: mapping.isShared)
    }

    /// Whether it can be the memory of a block.
    func check(
        _ geometry: BlockGeometry, at address: HostAddress, declared: RAMBacking?,
        allowsLarger: Bool
    ) throws(Refusal) {
        func refusal(_ problem: MappingProblem) -> Refusal {
            Refusal(problem: problem, address: address.rawValue)
        }
        guard mapping.isReadableAndWritable else { throw refusal(.notReadableAndWritable) }
        if let declared, declared != backing {
            throw refusal(.otherBacking(backing, declared: declared))
        }
        let page = geometry.hostPage
        let mayBeLarger = allowsLarger && backing != .hugetlb && page.bytes > mapping.pageBytes
        guard page.bytes == mapping.pageBytes || mayBeLarger else {
            throw refusal(.otherPages(bytes: mapping.pageBytes, page: page))
        }
        guard page.divides(address.rawValue) else { throw refusal(.misaligned(page: page)) }
    }
}

/// Reads the mappings of this process in order of their addresses.
private enum SmapsReader {
    /// More than the longest line, which ends in a path.
    private static let pieceBytes = 65_536

    /// Hands each mapping to `body` until that answers `false`.
    static func forEach(
        _ body: (Range<UInt64>, MappedRange.Mapping) throws(MappedRange.Refusal) -> Bool
    ) -> Result<Void, MappedRange.Refusal> {
        let raw = unsafe open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { return .failure(unreadable(.last)) }
        let file = FileDescriptor(owning: raw)
        var piece = [UInt8](repeating: 0, count: pieceBytes)
        var rest: [UInt8] = []
        var current: (range: Range<UInt64>, mapping: MappedRange.Mapping)?
        do throws(MappedRange.Refusal) {
            while true {
                let count = unsafe piece.withUnsafeMutableBytes { buffer in
                    unsafe Glibc::read(file.raw, buffer.baseAddress, buffer.count)
                }
                guard count >= 0 else { throw unreadable(.last) }
                guard count > 0 else { break }
                rest += piece[..<count]
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[..<end], as: UTF8.self)
                    rest.removeSubrange(...end)
                    if let header = header(line) {
                        if let current, try !body(current.range, current.mapping) {
                            return .success(())
                        }
                        current = header
                    } else if line.hasPrefix("KernelPageSize:") {
                        let number = line.drop { !$0.isNumber }.prefix { $0.isNumber }
                        current?.mapping.pageBytes = (UInt64(number) ?? 0) << 10
                    }
                }
            }
            if let current { _ = try body(current.range, current.mapping) }
            return .success(())
        } catch { return .failure(error) }
    }

    private static func unreadable(_ error: Errno) -> MappedRange.Refusal {
        MappedRange.Refusal(problem: .unknown(error), address: 0)
    }

    /// `start-end rwxp offset device inode path`, or `nil` for a line that tells of a mapping.
    private static func header(
        _ line: String
    ) -> (range: Range<UInt64>, mapping: MappedRange.Mapping)? {
        let fields = line.split(separator: " ", maxSplits: 5)
        guard fields.count >= 5, fields[1].count == 4 else { return nil }
        let ends = fields[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
        guard ends.count == 2, ends[0] <= ends[1] else { return nil }
        let path = fields.count > 5 ? fields[5].drop { $0 == " " } : ""
        var mapping = MappedRange.Mapping()
        mapping.isReadableAndWritable = fields[1].hasPrefix("rw")
        mapping.isShared = fields[1].hasSuffix("s")
        // Huge pages without a file have one all the same, in which nothing is.
        mapping.isFile = fields[4] != "0" && !path.hasPrefix("/anon_hugepage")
        return (ends[0]..<ends[1], mapping)
    }
}
