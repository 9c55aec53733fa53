public import PageModel
internal import Synchronization

/// Tracks the writes of this process, its system calls among them, by protecting pages: the first
/// write to a page after each `sync` costs it a fault of about 1 us.
///
/// Asynchronous protection of userfaultfd (Linux 6.7; on aarch64 6.10): nobody waits, nothing is
/// read from the descriptor, and no privilege is needed. Not seen are the writes of others, of
/// processes and devices that map or pin the memory themselves (vhost-user, VFIO). Under KVM each
/// `sync` takes away the guest's own mappings of the block: KVM's dirty log is the better tracker.
///
/// The first write to a transparent huge page splits it. Untouched memory gets page tables, 2 MiB
/// for each GiB. Memory that is given back (`MADV_DONTNEED`) may count as written.
/// Source: Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst of the kernel.
public final class WriteProtectTracker: DirtyTracker {
    /// By block index; `nil` for ignored blocks.
    private let memory: [GuestRAM?]
    /// Not `nil` between `start` and `stop`. Who has taken it keeps its descriptors open.
    private let tracking = Mutex<Tracking?>(nil)

    /// - Parameter ignored: blocks in which `sync` finds nothing, for those that are not sent.
    public init(_ memory: [GuestRAM], ignoring ignored: Set<BlockIndex> = []) {
        self.memory = memory.enumerated().map { index, ram in
            ignored.contains(BlockIndex(rawValue: index)) ? nil : ram
        }
    }

    public func check() throws(TrackerRefusal) {
        guard memory.contains(where: { $0 != nil }) else { throw .nothingToTrack }
        // What tracks was found able to, and would now find its own blocks taken.
        if current != nil { return }
        let tracking = try Tracking()
        for ram in memory {
            guard let ram else { continue }
            try tracking.probe(ram)
        }
    }

    /// Protects all memory, at about 20 ms for each GiB in pages of 4 KiB, while the guest runs on.
    /// - Precondition: it does not track.
    public func start() throws(TrackerRefusal) {
        precondition(current == nil)
        // What is registered when a block refuses goes with the descriptor.
        let tracking = try Tracking()
        for ram in memory {
            guard let ram else { continue }
            try tracking.protect(ram)
        }
        self.tracking.withLock { $0 = tracking }
    }

    /// Costs 0.4 ms for each GiB in pages of 4 KiB, and 60 ns for each page written. One thread
    /// does it: two would interrupt each other's cores at every page table, and are slower.
    /// - Precondition: it tracks.
    public func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        guard let ram = memory[block.rawValue] else { return 0 }
        guard let tracking = current else { fatalError("sync before start or after stop") }
        var found = 0
        try tracking.takeWritten(ram.addresses, of: ram) { written in
            found += dirty.insert(ram.targetPages(of: written))
        }
        return found
    }

    /// Nothing is due: `sync` has protected what it found.
    public func clear(_ block: BlockIndex, _ pages: Range<Int>) {}

    /// Forgets nothing unless it tracks.
    public func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        guard let ram = memory[block.rawValue], let tracking = current else { return }
        do throws(Errno) {
            try tracking.takeWritten(ram.wholeHostPages(in: pages), of: ram) { _ in }
        } catch {
            // The kernel refuses what another thread has stopped to track meanwhile.
            if current === tracking { throw error }
        }
    }

    /// Lifts all protection, at about 20 ms for each GiB in pages of 4 KiB: not for the downtime.
    public func stop() {
        let ended = tracking.withLock { $0.take() }
        guard let ended else { return }
        for ram in memory {
            guard let ram else { continue }
            ended.release(ram)
        }
    }

    private var current: Tracking? { tracking.withLock { $0 } }
}

/// The descriptors of one tracking, from `start` to `stop`.
private final class Tracking: Sendable {
    private let uffd: Userfaultfd
    private let pageMap: PageMap

    init() throws(TrackerRefusal) {
        do throws(UserfaultfdRefusal) {
            uffd = try Userfaultfd.open(.userOnly, .noticedWrites)
        } catch { throw .opening(error) }
        do throws(Errno) { pageMap = try PageMap() } catch { throw .scanning(error) }
    }

    /// What one call to the kernel is given to walk, about 2 ms where every page is to be
    /// protected: meanwhile it has the lock of the address space, which an `mmap` would wait for.
    private static let pieceBytes: UInt64 = 64 << 20

    private func pieceBytes(of ram: GuestRAM) -> UInt64 {
        max(Self.pieceBytes, ram.geometry.hostPage.bytes)
    }

    /// Finds out whether `protect` and `takeWritten` would be refused.
    func probe(_ ram: GuestRAM) throws(TrackerRefusal) {
        // Unregistering walks every page and keeps faults out: a small part tells as much.
        let part = ram.addresses.firstPiece(
            ofBytes: max(PageSize.size2MiB.bytes, ram.geometry.hostPage.bytes))
        do throws(Errno) {
            try uffd.registerForWrites(part)
            try uffd.unregister(part)
        } catch { throw .registering(ram.geometry.name, error) }
        do throws(Errno) {
            try pageMap.forEachWritten(in: part, protecting: false) { _ in }
        } catch { throw .scanning(error) }
    }

    func protect(_ ram: GuestRAM) throws(TrackerRefusal) {
        do throws(Errno) {
            try uffd.registerForWrites(ram.addresses)
            try ram.addresses.forEachPiece(ofBytes: pieceBytes(of: ram)) { piece throws(Errno) in
                try uffd.protect(piece)
            }
        } catch { throw .registering(ram.geometry.name, error) }
    }

    /// Hands on the pages of a part of `ram` that were written since they were last protected; they
    /// are protected anew by then.
    func takeWritten(
        _ part: Range<HostAddress>, of ram: GuestRAM, _ body: (Range<HostAddress>) -> Void
    ) throws(Errno) {
        try part.forEachPiece(ofBytes: pieceBytes(of: ram)) { piece throws(Errno) in
            // In one step, Linux before 7.2 passes over huge pages larger than 2 MiB (its commit
            // "use huge_page_size() in pagemap_scan_hugetlb_entry()"). Two steps lose no write
            // either: one that comes between them is in what is read later.
            let isHuge = ram.backing == .hugetlb
            try pageMap.forEachWritten(in: piece, protecting: !isHuge) { written throws(Errno) in
                if isHuge { try uffd.protect(written) }
                body(written)
            }
        }
    }

    func release(_ ram: GuestRAM) {
        ram.addresses.forEachPiece(ofBytes: pieceBytes(of: ram)) { piece in
            // Where this is refused, the end of the descriptor does the same.
            try? uffd.unregister(piece)
        }
    }
}

extension GuestRAM {
    fileprivate func targetPages(of addresses: Range<HostAddress>) -> Range<Int> {
        func page(_ end: HostAddress) -> Int {
            Int((end.rawValue - address.rawValue) >> UInt64(PageSize.target.shift))
        }
        return page(addresses.lowerBound)..<page(addresses.upperBound)
    }

    /// The host pages that lie in a range of target pages as a whole.
    fileprivate func wholeHostPages(in pages: Range<Int>) -> Range<HostAddress> {
        precondition(pages.lowerBound >= 0 && pages.upperBound <= geometry.targetPageCount)
        let unit = geometry.hostPage.targetPages
        func place(_ page: Int) -> HostAddress {
            let offset = geometry.offset(of: HostPageIndex(rawValue: page))
            return HostAddress(rawValue: address.rawValue + offset.rawValue)
        }
        let first = (pages.lowerBound + unit - 1) / unit
        return place(first)..<place(max(first, pages.upperBound / unit))
    }
}
