internal import CShims
internal import Glibc
public import PageModel
internal import Synchronization

/// What memory a RAM block lies in.
public enum RAMBacking: String, CaseIterable, Sendable {
    /// Private memory in pages of the system's size.
    case anonymous
    /// Shared memory of a memfd, as VMMs use that share guest RAM with other processes, or of a file.
    case memfd
    /// Huge pages, reserved when the block is made: private ones, or of a file.
    case hugetlb
}

/// Whose the memory of a RAM block is.
enum RAMOrigin: Equatable, Sendable {
    case own
    /// A file that others may map as well.
    case sharedFile
    /// A file that is read where nobody wrote, and never written.
    case fileContent
    /// The program's that embeds this one, which mapped it and will unmap it.
    case given(isShared: Bool)
}

/// Why a RAM block cannot be had.
public enum RAMError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The kernel maps no such memory.
    case mapping(block: String, lengthBytes: UInt64, Errno)
    /// The host has set aside fewer huge pages than the block needs.
    case tooFewHugePages(block: String, needed: Int, free: Int, page: PageSize)
    /// The host has no huge pages of this size.
    case hugePageSizeUnknown(block: String, page: PageSize)
    /// Only hugetlb has pages of another size than the system's, and no memory has smaller ones.
    case otherPageSize(block: String, page: PageSize, systemPage: PageSize)
    /// - Parameter limitBytes: what the process may lock; `nil` when memory is what lacks.
    case locking(block: String, lengthBytes: UInt64, limitBytes: UInt64?, Errno)
    /// The file to be shared cannot be opened.
    case openingFile(block: String, path: String, Errno)
    /// What is to be shared is a folder, a device or a pipe.
    case noRegularFile(block: String, path: String)
    /// The file to be shared ends before the block does.
    case fileTooShort(block: String, path: String, lengthBytes: UInt64, neededBytes: UInt64)
    /// The file lies in pages of another size than the block's.
    case filePageSize(block: String, path: String, pageBytes: UInt64, page: PageSize)
    /// For a file that is only read.
    case readingFile(block: String, path: String, Errno)
    /// The file that is read ends before the block does.
    case contentTooShort(block: String, path: String, lengthBytes: UInt64, neededBytes: UInt64)
    /// The block was made without a used length.
    case notResizable(block: String)
    /// A used length over what is mapped.
    case beyondMaximum(block: String, usedBytes: UInt64, maximumBytes: UInt64)
    /// A used length of 0, or that ends inside a page.
    case notWholePages(block: String, usedBytes: UInt64, page: PageSize)
    /// A migration counts on the block's length.
    case frozen(block: String)
    /// What the block lost could not be given back.
    case dropping(block: String, lengthBytes: UInt64, Errno)
    /// Of memory that the program itself mapped: why it is no RAM block. The address is where it begins
    /// to be none.
    case givenMapping(block: String, MappingProblem, atAddress: UInt64)

    public var description: String {
        switch self {
        case .mapping(let block, let length, let error):
            return "RAM block '\(block)': mapping \(length) bytes: \(error)"
        case .tooFewHugePages(let block, let needed, let free, let page):
            return "RAM block '\(block)' needs \(needed) huge pages of \(page.bytes >> 10) KiB, "
                + "\(free) are free: \(HugePages.remedy(pageBytes: page.bytes))"
        case .hugePageSizeUnknown(let block, let page):
            return "RAM block '\(block)': this host has no huge pages of \(page.bytes) bytes; "
                + "see /sys/kernel/mm/hugepages"
        case .otherPageSize(let block, let page, let systemPage):
            return "RAM block '\(block)': pages of \(page.bytes) bytes need hugetlb backing; this "
                + "host's other memory has pages of \(systemPage.bytes)"
        case .locking(let block, let length, let limit, let error):
            let remedy =
                limit.map { HostMemory.lockRemedy(limitBytes: $0) } ?? "free some memory"
            return "RAM block '\(block)': locking \(length) bytes: \(error); \(remedy)"
        case .openingFile, .noRegularFile, .fileTooShort, .filePageSize, .readingFile,
            .contentTooShort:
            return fileText
        case .notResizable, .beyondMaximum, .notWholePages, .frozen, .dropping: return lengthText
        case .givenMapping(let block, let problem, let address):
            return "RAM block '\(block)', mapped by this program: "
                + "at 0x\(String(address, radix: 16)) \(problem)"
        }
    }
}

/// One RAM block's memory in this process.
///
/// What was mapped here is unmapped when the last user goes, and a migration or fault handler is one:
/// an embedder may let go of it at any time. What the program mapped itself (`init(_:mapping:)`) it keeps.
///
/// The runtime's threads never touch it once it is registered with a userfaultfd: the thread that
/// answers faults would wait for itself. Guest threads do, through `loadWord` and `storeWord`.
@safe
public final class GuestRAM: @unchecked Sendable {
    // SAFETY: `base` maps `geometry.lengthBytes` bytes from `init` to `deinit`, and every access is
    // checked against that length. Races on the content are the guest's own.
    /// Its name, its length and its host pages.
    public let geometry: BlockGeometry
    /// What it lies in.
    public let backing: RAMBacking
    /// Where the guest sees the block: both sides must agree on it where shared memory is ignored.
    public let guestPhysicalAddress: UInt64
    /// Whether `resize` may change `usedBytes`.
    public let isResizable: Bool
    @usableFromInline let base: UnsafeMutableRawPointer
    /// Changed by whoever owns the block, and by a migration meanwhile.
    let memoryLock = Mutex(MemoryLock.none)
    let origin: RAMOrigin
    /// Of a memfd, or of a file that is shared; `nil` for memory that has none.
    let file: FileDescriptor?
    /// Written by whoever resizes, and by a migration.
    let length: Mutex<UsedLength>

    /// Maps fresh, zero memory of `geometry.lengthBytes`, in huge pages where the host gives them.
    /// - Parameter usedBytes: what the guest uses at first of a block that is resizable; `nil` for
    ///   one that is used whole and for good.
    /// - Parameter allowsLargerHostPages: whether memory in the system's pages may be counted in larger
    ///   host pages, as where it stands in for a peer's huge pages: those are requested, placed and
    ///   dropped whole, and take only what their small pages take. Otherwise such a block is refused.
    public init(
        _ geometry: BlockGeometry, backing: RAMBacking, usedBytes: UInt64? = nil,
        guestPhysicalAddress: UInt64 = 0, allowsLargerHostPages: Bool = false
    ) throws(RAMError) {
        self.geometry = geometry
        self.backing = backing
        self.guestPhysicalAddress = guestPhysicalAddress
        isResizable = usedBytes != nil
        origin = .own
        if let usedBytes { try Self.check(usedBytes, of: geometry) }
        self.length = Mutex(UsedLength(bytes: usedBytes ?? geometry.lengthBytes))
        if backing != .hugetlb {
            try Self.checkPage(of: geometry, allowsLarger: allowsLargerHostPages)
        }
        let length = geometry.lengthBytes
        let address: Int64
        var memfd: FileDescriptor?
        switch backing {
        case .anonymous:
            address = pc_map(-1, length, Self.alignment(of: geometry))
        case .memfd:
            let raw = unsafe pc_memfd_create(geometry.name, length)
            guard raw >= 0 else {
                throw .mapping(
                    block: geometry.name, lengthBytes: length, Errno(rawValue: -raw))
            }
            memfd = FileDescriptor(owning: raw)
            address = pc_map(raw, length, Self.alignment(of: geometry))
        case .hugetlb:
            address = pc_map_huge(length, Int32(geometry.hostPage.shift))
        }
        file = memfd
        unsafe base = try unsafe Self.start(of: address, geometry, backing)
        allowHugePages()
    }

    /// What the kernel faults and places at once, which a host page consists of: the system's page, or
    /// a huge page of hugetlb.
    public var placingUnit: PageSize {
        backing == .hugetlb ? geometry.hostPage : HostMemory.pageSize
    }

    /// Whether memory in the system's pages can be counted in a block's host pages.
    static func checkPage(of geometry: BlockGeometry, allowsLarger: Bool) throws(RAMError) {
        let (page, system) = (geometry.hostPage, HostMemory.pageSize)
        guard page == system || allowsLarger && page > system else {
            throw .otherPageSize(block: geometry.name, page: page, systemPage: system)
        }
    }

    /// The start of a mapping that the kernel answered, left out of core dumps; or why there is none.
    @unsafe static func start(
        of address: Int64, _ geometry: BlockGeometry, _ backing: RAMBacking
    ) throws(RAMError) -> UnsafeMutableRawPointer {
        let length = geometry.lengthBytes
        guard address >= 0, let mapped = unsafe UnsafeMutableRawPointer(bitPattern: Int(address))
        else {
            let error = Errno(rawValue: Int32(truncatingIfNeeded: -address))
            if backing == .hugetlb { throw HugePages.refusal(of: geometry, error) }
            throw .mapping(block: geometry.name, lengthBytes: length, error)
        }
        _ = pc_advise(UInt64(address), length, PC_ADVICE_DONT_DUMP)
        return unsafe mapped
    }

    /// A range is mapped by one entry only where it is aligned to itself.
    static func alignment(of geometry: BlockGeometry) -> UInt64 {
        guard let huge = HostMemory.hugePageSize, geometry.lengthBytes >= huge.bytes else {
            return geometry.hostPage.bytes
        }
        return huge.bytes
    }

    /// Maps the first `geometry.lengthBytes` of a file shared, with what is in it, beside others that
    /// map it too: the other end of a local update, or of storage that hosts share.
    ///
    /// Its pages are the system's, or those of a hugetlbfs.
    public init(
        _ geometry: BlockGeometry, sharing path: String, guestPhysicalAddress: UInt64 = 0
    ) throws(RAMError) {
        self.geometry = geometry
        backing = geometry.hostPage == HostMemory.pageSize ? .memfd : .hugetlb
        self.guestPhysicalAddress = guestPhysicalAddress
        isResizable = false
        origin = .sharedFile
        let length = geometry.lengthBytes
        self.length = Mutex(UsedLength(bytes: length))
        let file = try SharedFile.open(path, for: geometry)
        let address = pc_file_map(file.raw, length)
        self.file = consume file
        unsafe base = try unsafe Self.start(of: address, geometry, backing)
    }

    /// Maps the first `geometry.lengthBytes` of a regular file for reading: what a machine that was kept
    /// in files is sent from. Nothing is written to the file; what is written to the memory is seen here
    /// alone, and `drop` brings the file's content back.
    ///
    /// Holes of the file read as zeros and allocate nothing, as memory never touched does; but short ones
    /// between data are read like data, for which a tmpfs allocates them. The file must stay as it is
    /// meanwhile: a page that cannot be read, because the file was cut off or the disk fails, is a
    /// `SIGBUS`. Such a block is no destination's: its pages are never missing.
    ///
    /// Host pages may be larger than the system's.
    public init(_ geometry: BlockGeometry, contentOf path: String) throws(RAMError) {
        self.geometry = geometry
        backing = .anonymous
        guestPhysicalAddress = 0
        isResizable = false
        origin = .fileContent
        let length = geometry.lengthBytes
        self.length = Mutex(UsedLength(bytes: length))
        try Self.checkPage(of: geometry, allowsLarger: true)
        file = nil
        let address = try FileContent.map(
            path, as: geometry, alignment: Self.alignment(of: geometry))
        unsafe base = try unsafe Self.start(of: address, geometry, backing)
        allowHugePages()
    }

    /// Memory that is mapped, and that nobody unmaps here.
    init(
        given geometry: BlockGeometry, at address: HostAddress, backing: RAMBacking,
        origin: RAMOrigin, usedBytes: UInt64?, guestPhysicalAddress: UInt64
    ) throws(RAMError) {
        self.geometry = geometry
        self.backing = backing
        self.guestPhysicalAddress = guestPhysicalAddress
        self.origin = origin
        isResizable = usedBytes != nil
        length = Mutex(UsedLength(bytes: usedBytes ?? geometry.lengthBytes))
        file = nil
        guard let start = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address.rawValue)) else {
            throw .givenMapping(block: geometry.name, .nothing, atAddress: 0)
        }
        unsafe base = unsafe start
    }

    deinit {
        if isGiven { return }
        _ = unsafe pc_unmap(UInt64(UInt(bitPattern: base)), geometry.lengthBytes)
    }

    /// Where it begins in this process.
    public var address: HostAddress {
        unsafe HostAddress(rawValue: UInt64(UInt(bitPattern: base)))
    }

    /// What the guest uses now.
    var usedAddresses: Range<HostAddress> {
        address..<HostAddress(rawValue: address.rawValue + usedBytes)
    }

    /// Where a host page lies in this process.
    public func addresses(of page: HostPageIndex) -> Range<HostAddress> {
        let start = address.rawValue + geometry.offset(of: page).rawValue
        return HostAddress(rawValue: start)..<HostAddress(rawValue: start + geometry.hostPage.bytes)
    }

    /// The offset of an address of this process, or `nil` when another mapping holds it.
    public func offset(of address: HostAddress) -> RAMOffset? {
        let start = self.address.rawValue
        guard address.rawValue >= start, address.rawValue - start < geometry.lengthBytes else {
            return nil
        }
        return RAMOffset(rawValue: address.rawValue - start)
    }

    /// Reads the aligned 64-bit word at `byteOffset`; a missing page blocks until it is placed.
    @inlinable
    public func loadWord(at byteOffset: UInt64) -> UInt64 {
        precondition(byteOffset & 7 == 0 && byteOffset < geometry.lengthBytes)
        return unsafe base.load(fromByteOffset: Int(byteOffset), as: UInt64.self)
    }

    /// Writes the aligned 64-bit word at `byteOffset`; a missing page blocks until it is placed.
    @inlinable
    public func storeWord(_ value: UInt64, at byteOffset: UInt64) {
        precondition(byteOffset & 7 == 0 && byteOffset < geometry.lengthBytes)
        unsafe base.storeBytes(of: value, toByteOffset: Int(byteOffset), as: UInt64.self)
    }

    /// Lends the aligned words of `[byteOffset, byteOffset + lengthBytes)` for reading.
    @inlinable
    public func withPage<Result, Failure: Error>(
        at byteOffset: UInt64, lengthBytes: Int,
        _ body: (Span<UInt64>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let words = unsafe words(at: byteOffset, lengthBytes: lengthBytes)
        return try unsafe body(UnsafeBufferPointer(words).span)
    }

    /// Lends the aligned words of `[byteOffset, byteOffset + lengthBytes)` for writing.
    @inlinable
    public func withMutablePage<Result, Failure: Error>(
        at byteOffset: UInt64, lengthBytes: Int,
        _ body: (inout MutableSpan<UInt64>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let words = unsafe words(at: byteOffset, lengthBytes: lengthBytes)
        var span = unsafe words.mutableSpan
        return try body(&span)
    }

    @usableFromInline
    @unsafe func words(
        at byteOffset: UInt64, lengthBytes: Int
    ) -> UnsafeMutableBufferPointer<UInt64> {
        precondition(byteOffset & 7 == 0 && lengthBytes & 7 == 0 && lengthBytes >= 0)
        precondition(
            geometry.contains(
                start: RAMOffset(rawValue: byteOffset), lengthBytes: UInt64(lengthBytes)))
        return unsafe UnsafeMutableBufferPointer(
            start: (base + Int(byteOffset)).assumingMemoryBound(to: UInt64.self),
            count: lengthBytes / 8)
    }
}
