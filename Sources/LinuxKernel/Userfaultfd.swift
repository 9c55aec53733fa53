internal import CShims
public import PageModel

/// What became of pages that were to be placed.
public struct Placement: Equatable, Sendable {
    /// Bytes that the kernel took.
    public var placedBytes = 0
    /// Pages, as the kernel places them, that somebody had placed before; their waiters were woken.
    public var alreadyPresentPages = 0
    /// Whether the kernel refused the rest because of an event that nobody has read, or whose cause has
    /// not yet gone on. Only where that was asked for.
    public var isInterrupted = false

    /// Nothing placed yet.
    public init() {}

    /// How far a placing came: the bytes that were placed or there already.
    public func bytesDone(in memory: some PageTarget) -> Int {
        placedBytes + alreadyPresentPages << memory.placingUnit.shift
    }
}

/// The descriptor through which missing pages are reported and placed.
///
/// One thread reads events; any thread places: the kernel settles two placers of one page.
public struct Userfaultfd: ~Copyable, Sendable {
    let descriptor: FileDescriptor
    /// Which faults it reports; see `FaultOrigin`.
    public let origin: FaultOrigin

    init(_ descriptor: consuming FileDescriptor, origin: FaultOrigin) {
        self.descriptor = descriptor
        self.origin = origin
    }

    /// Reports missing pages of what the guest uses of a block from now on.
    /// - Throws: `EINVAL` for memory the kernel does not support, `EBUSY` when another descriptor
    ///   has it.
    public func register(_ ram: GuestRAM) throws(Errno) {
        try register(ram.usedAddresses, PC_UFFD_MODE_MISSING)
    }

    /// Ends the reports; whoever still waits is woken and missing pages read as zeros.
    public func unregister(_ memory: some PageTarget) throws(Errno) {
        let start = memory.address.rawValue
        try unregisterAndWake(start..<start + memory.geometry.lengthBytes)
    }

    /// Ends the reports of all pages of which they can be ended, and wakes whoever waits in any: for memory
    /// whose owner may have mapped something else there meanwhile, or may be gone.
    public func release(_ memory: some PageTarget) {
        let start = memory.address.rawValue
        release(
            start..<start + memory.geometry.lengthBytes, inPagesOf: memory.geometry.hostPage)
    }

    /// A range takes one, or a few for each place at which its owner mapped something else meanwhile.
    private static let piecesMax = 4_096

    /// The same for a range of addresses in the process whose faults it reports.
    func release(_ addresses: Range<UInt64>, inPagesOf page: PageSize) {
        var pieces = [addresses]
        var next = 0
        while next < min(pieces.count, Self.piecesMax) {
            let piece = pieces[next]
            next += 1
            // Refused as a whole where its owner has mapped what cannot be registered, or nothing; and
            // where its owner is gone.
            do throws(Errno) { try unregisterAndWake(piece) } catch {
                let pageCount = (piece.upperBound - piece.lowerBound) >> UInt64(page.shift)
                guard error == .invalidArgument, pageCount > 1 else { continue }
                let middle = piece.lowerBound + (pageCount / 2) << UInt64(page.shift)
                pieces += [piece.lowerBound..<middle, middle..<piece.upperBound]
            }
        }
    }

    /// - Throws: `EINVAL` when nothing is mapped there, or also something that cannot be registered.
    private func unregisterAndWake(_ addresses: Range<UInt64>) throws(Errno) {
        let (start, length) = (
            addresses.lowerBound, addresses.upperBound - addresses.lowerBound
        )
        let answer = pc_uffd_unregister(descriptor.raw, start, length)
        // The kernel wakes before it lets go of the range: a fault that comes in between sleeps on. And
        // whoever waits where it was refused looks once more.
        let woken = pc_uffd_wake(descriptor.raw, start, length)
        try Errno.check(answer)
        try Errno.check(woken)
    }

    /// Lets pages be protected from writes, by a descriptor that was opened for `noticedWrites`.
    /// - Throws: as `register(_:)`, and `EPERM` for memory that may not be written.
    func registerForWrites(_ addresses: Range<HostAddress>) throws(Errno) {
        try register(addresses, PC_UFFD_MODE_WRITE_PROTECT)
    }

    /// Protects whole pages, also those never touched: the next write to each is noted in the page
    /// map and goes on at once (`UFFDIO_WRITEPROTECT`).
    /// - Throws: `ENOMEM` when there is none for the page tables of untouched memory.
    func protect(_ addresses: Range<HostAddress>) throws(Errno) {
        try Errno.check(
            pc_uffd_writeprotect(
                descriptor.raw, addresses.lowerBound.rawValue, addresses.lengthBytes, 1))
    }

    /// Ends what was registered and lifts every protection.
    func unregister(_ addresses: Range<HostAddress>) throws(Errno) {
        try Errno.check(
            pc_uffd_unregister(
                descriptor.raw, addresses.lowerBound.rawValue, addresses.lengthBytes))
    }

    private func register(_ addresses: Range<HostAddress>, _ mode: pc_uffd_mode) throws(Errno) {
        var ioctls: UInt64 = 0
        try Errno.check(
            unsafe pc_uffd_register(
                descriptor.raw, addresses.lowerBound.rawValue, addresses.lengthBytes,
                UInt64(mode.rawValue), &ioctls))
    }

    /// Places staged bytes as pages of `memory` and wakes whoever waits for them (`UFFDIO_COPY`).
    /// - Parameter yieldsToEvents: whether an unread event ends the call (`Placement.isInterrupted`),
    ///   for one whose caller keeps the reader out; otherwise it is waited for.
    /// - Precondition: `lengthBytes` is a multiple of the memory's `placingUnit` and inside it.
    /// - Throws: what the kernel answers but `EEXIST`, which counts as already present: `ESRCH` once the
    ///   memory's process is gone, `ENOENT` when the range is not registered; `EINVAL` when the memory
    ///   consists of other pages than its `placingUnit` says.
    public func place(
        _ staging: borrowing StagingArea, from start: Int = 0, lengthBytes: Int,
        at offset: RAMOffset, of memory: some PageTarget, yieldsToEvents: Bool = false
    ) throws(Errno) -> Placement {
        precondition(start >= 0 && lengthBytes <= staging.capacityBytes - start)
        let source = unsafe UnsafeRawPointer(staging.storage.baseAddress!) + start
        return try place(lengthBytes, at: offset, of: memory, yieldsToEvents) {
            target, done, length in
            unsafe pc_uffd_copy(descriptor.raw, target, source + done, UInt64(length))
        }
    }

    /// Places zero pages (`UFFDIO_ZEROPAGE`) under the same terms; the kernel has no such thing for
    /// hugetlb.
    public func placeZeros(
        lengthBytes: Int, at offset: RAMOffset, of memory: some PageTarget,
        yieldsToEvents: Bool = false
    ) throws(Errno) -> Placement {
        try place(lengthBytes, at: offset, of: memory, yieldsToEvents) { target, _, length in
            pc_uffd_zeropage(descriptor.raw, target, UInt64(length))
        }
    }

    /// Makes absent host pages ones whose content is lost (`UFFDIO_POISON`, Linux 6.6): whoever waits in
    /// them or touches them later gets `SIGBUS`. Those that are present stay as they are.
    /// - Throws: `ENOTTY` or `EINVAL` where the kernel has no such thing.
    @discardableResult
    public func poison(
        _ pages: Range<HostPageIndex>, of memory: some PageTarget, yieldsToEvents: Bool = false
    ) throws(Errno) -> Placement {
        let start = memory.geometry.offset(of: pages.lowerBound)
        let count = pages.upperBound.rawValue - pages.lowerBound.rawValue
        let lengthBytes = count << memory.geometry.hostPage.shift
        return try place(lengthBytes, at: start, of: memory, yieldsToEvents) { target, _, length in
            pc_uffd_poison(descriptor.raw, target, UInt64(length))
        }
    }

    /// Wakes whoever waits in a host page.
    public func wake(_ page: HostPageIndex, of memory: some PageTarget) throws(Errno) {
        let start = memory.address.rawValue + memory.geometry.offset(of: page).rawValue
        try Errno.check(pc_uffd_wake(descriptor.raw, start, memory.geometry.hostPage.bytes))
    }

    /// The least that can be placed anywhere.
    private static let smallest = Int(HostMemory.pageSize.bytes)

    /// Whether memory consists of smaller pages than it says, by what the kernel answered to the placing of
    /// one of the system's pages where something is present: it takes no part of a huge page, whether or
    /// not that is there. Where a small page went away meanwhile its content was placed.
    private func isSmaller(_ memory: some PageTarget, _ answer: @autoclosure () -> Int64) -> Bool {
        guard memory.placingUnit > HostMemory.pageSize else { return false }
        let answer = answer()
        return answer > 0 || answer == -Int64(Errno.exists.rawValue)
    }

    /// How often a placing that met an unread event is tried again: the reader needs microseconds,
    /// and each try yields the core to it.
    private static let retriesMax = 10_000

    private func place(
        _ lengthBytes: Int, at offset: RAMOffset, of memory: some PageTarget,
        _ yieldsToEvents: Bool, _ call: (_ target: UInt64, _ done: Int, _ length: Int) -> Int64
    ) throws(Errno) -> Placement {
        precondition(memory.geometry.contains(start: offset, lengthBytes: UInt64(lengthBytes)))
        let pageBytes = Int(memory.placingUnit.bytes)
        let start = memory.address.rawValue + offset.rawValue
        var placement = Placement()
        var done = 0
        var retries = 0
        while done < lengthBytes {
            let answer = call(start + UInt64(done), done, lengthBytes - done)
            if answer > 0 {
                guard Int(answer) % pageBytes == 0 else { throw .invalidArgument }
                placement.placedBytes += Int(answer)
                done += Int(answer)
                continue
            }
            switch Errno(rawValue: Int32(truncatingIfNeeded: -answer)) {
            case .exists where isSmaller(memory, call(start + UInt64(done), done, Self.smallest)):
                throw .invalidArgument
            case .exists:
                try Errno.check(
                    pc_uffd_wake(descriptor.raw, start + UInt64(done), UInt64(pageBytes)))
                placement.alreadyPresentPages += 1
                done += pageBytes
            case .again where yieldsToEvents:
                placement.isInterrupted = true
                return placement
            case .again where retries < Self.retriesMax:
                retries += 1
                yieldCore()
            case let error:
                throw error
            }
        }
        return placement
    }
}
