internal import CShims
public import PageModel

/// Why a range of a program's own mappings is no RAM block.
public enum MappingProblem: Error, Equatable, Sendable, CustomStringConvertible {
    /// No mapping: it ends before the block does, has a hole, or was never there.
    case nothing
    /// A guest's memory is read and written.
    case notReadableAndWritable
    /// Its pages are not the block's host pages.
    case otherPages(bytes: UInt64, page: PageSize)
    /// It is made of mappings of several kinds, or begins inside a page.
    case mixed
    /// It begins inside a host page.
    case misaligned(page: PageSize)
    /// What the caller said that it is.
    case otherBacking(RAMBacking, declared: RAMBacking)
    /// `/proc/self/smaps` cannot be read.
    case unknown(Errno)

    public var description: String {
        switch self {
        case .nothing:
            "nothing is mapped; map the whole block before, and keep it mapped as long as anybody "
                + "uses it"
        case .notReadableAndWritable: "it may not be both read and written: map it with both"
        case .otherPages(let bytes, let page):
            "its pages are of \(bytes) bytes, and the block's are of \(page.bytes): give the geometry "
                + "those of the mapping"
        case .mixed: "a mapping of another kind begins: make one block of each"
        case .misaligned(let page):
            "no page of \(page.bytes) bytes begins: align the block to its pages"
        case .otherBacking(let found, let declared):
            "it is \(found.rawValue) memory, and \(declared.rawValue) was declared"
        case .unknown(let error): "reading /proc/self/smaps: \(error); mount /proc"
        }
    }
}

extension GuestRAM {
    /// Takes memory that this program has mapped as a RAM block: that of a VMM which makes its own.
    ///
    /// It stays the program's: it is not unmapped here, and its advice (core dumps, huge pages) is left
    /// alone until a migration begins. The kernel is asked what is there (`/proc/self/smaps`, which takes
    /// milliseconds for each GiB that is present), so that memory which is not mapped is an error now.
    ///
    /// A private mapping of a file is sent like any other, and is no destination's: its pages are never
    /// missing. Shared memory that lies in a file on a disk is none either.
    ///
    /// - Parameters:
    ///   - geometry: its host pages are the mapping's.
    ///   - address: where the block begins; a multiple of its host page.
    ///   - backing: what it is known to be; `nil` for what the kernel says.
    ///   - usedBytes: as of a block that is made here.
    ///   - allowsLargerHostPages: as of a block that is made here.
    /// - Throws: `RAMError.givenMapping`, which names the place.
    /// - Precondition: `geometry.lengthBytes` from `address` on stay mapped, by the same mapping, until this
    ///   value has gone; a migration holds on to it (`MigrationSource`, `MigrationDestination`). A source
    ///   that reads memory which was unmapped meanwhile ends the process with a bare `SIGSEGV`, and sends
    ///   what lies there by then if something does; a destination pauses, and says why.
    @unsafe
    public convenience init(
        _ geometry: BlockGeometry, mapping address: HostAddress, backing: RAMBacking? = nil,
        usedBytes: UInt64? = nil, guestPhysicalAddress: UInt64 = 0,
        allowsLargerHostPages: Bool = false
    ) throws(RAMError) {
        if let usedBytes { try Self.check(usedBytes, of: geometry) }
        let found = try MappedRange.whole(of: geometry, at: address)
        do throws(MappedRange.Refusal) {
            try found.check(
                geometry, at: address, declared: backing, allowsLarger: allowsLargerHostPages)
        } catch { throw error.named(geometry) }
        try self.init(
            given: geometry, at: address, backing: found.backing, origin: found.origin,
            usedBytes: usedBytes, guestPhysicalAddress: guestPhysicalAddress)
    }

    /// Whether memory that the program mapped is still there, and of the same kind.
    /// - Throws: `RAMError.givenMapping`, which names the place.
    package func checkMapping() throws(RAMError) {
        guard isGiven else { return }
        let found = try MappedRange.whole(of: geometry, at: address)
        do throws(MappedRange.Refusal) {
            try found.check(geometry, at: address, declared: backing, allowsLarger: true)
        } catch { throw error.named(geometry) }
    }

    /// Whether the program mapped it, and not this library.
    var isGiven: Bool {
        if case .given = origin { return true }
        return false
    }

    /// Whether its pages go back by `MADV_REMOVE`: dropping its page tables leaves shared pages there.
    var isDroppedByRemoval: Bool {
        switch origin {
        case .own, .fileContent: backing == .memfd
        case .sharedFile, .given(isShared: true): true
        case .given(isShared: false): false
        }
    }

    /// Asks the kernel, which refuses memory whose missing pages it does not report. Where nobody may ask,
    /// the destination's own question comes to the same.
    var isReportedWhenMissing: Bool {
        guard let uffd = try? Userfaultfd.open(.userOnly) else { return true }
        do throws(Errno) { try uffd.register(self) } catch { return error != .invalidArgument }
        try? uffd.unregister(self)
        return true
    }
}
