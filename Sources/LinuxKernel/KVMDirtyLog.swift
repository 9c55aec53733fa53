internal import CShims
internal import Glibc
public import PageModel
internal import Synchronization

/// Tracks a virtual machine's writes by the dirty log of KVM, with manual protection.
///
/// Reading the log changes nothing; pages are protected anew by `clear`, chunk by chunk, just before
/// the first of a chunk is read. What was written between is thus reported once and not twice, and
/// no call holds up the vCPUs for longer than a chunk takes.
///
/// A new log says that every page was written, where the kernel can do so (`KVM_DIRTY_LOG_INITIALLY_SET`,
/// Linux 5.7): `start` then protects nothing, for the pages must all be sent once anyway. So `sync`
/// once before the first page is sent: what is sent earlier is not cleared and is reported again.
///
/// Not seen are writes of this process, such as devices make: the VMM must report those itself.
/// Source: `kvm_log_sync`, `kvm_log_clear` and `ramblock_sync_dirty_bitmap` of QEMU; `KVM_GET_DIRTY_LOG`
/// and `KVM_CLEAR_DIRTY_LOG` in Documentation/virt/kvm/api.rst.
public final class KVMDirtyLog: DirtyTracker {
    /// As QEMU has it (`CLEAR_BITMAP_SHIFT_DEFAULT`). A vCPU that meets a protected page waits while a
    /// chunk is cleared: 2 ms where every page of 1 GiB was written, 1 us for one of 256 KiB.
    public static let chunkBytesDefault: UInt64 = 1 << 30

    private let machine: FileDescriptor
    private let blocks: [BlockGeometry]
    private let slots: [KVMSlot]
    private let chunkPages: Int
    /// Empty unless tracking. Locked during the calls, against the house's habit: a page is only
    /// cleared if its bit was obtained before, so the kernel's log, what was obtained of it and what is
    /// cleared must change together; and whoever finds its chunk cleared must not find it half cleared.
    /// One lock for all slots, since the kernel has one as well (`slots_lock`).
    private let logs = Mutex<[SlotLog]>([])

    /// Changes nothing in the machine.
    /// - Parameters:
    ///   - machine: the descriptor of the virtual machine; it may be closed afterwards.
    ///   - blocks: every RAM block, in the order of the block list.
    ///   - slots: all memory that the guest may write, as the VMM gave it to KVM, which must not change
    ///     while tracking. Several may lie in one block, and parts of a block in none.
    ///   - chunkBytes: what `clear` protects at once: a power of two, at least 256 KiB.
    /// - Throws: what is wrong with the chunk or the descriptor.
    public init(
        machine: Int32, blocks: [BlockGeometry], slots: [KVMSlot],
        chunkBytes: UInt64 = KVMDirtyLog.chunkBytesDefault
    ) throws(TrackerRefusal) {
        let chunkBytesMin = UInt64(ClearBitmap.chunkPagesMin) << UInt64(PageSize.target.shift)
        guard chunkBytes >= chunkBytesMin, chunkBytes.nonzeroBitCount == 1 else {
            throw TrackerRefusal(
                "chunks of \(chunkBytes) bytes cannot be cleared in KVM's dirty log; choose a power "
                    + "of two, at least \(chunkBytesMin) (256 KiB)")
        }
        let own = fcntl(machine, F_DUPFD_CLOEXEC, 0)
        guard own >= 0 else {
            throw TrackerRefusal("descriptor \(machine) of a virtual machine: \(Errno.last)")
        }
        self.machine = FileDescriptor(owning: own)
        self.blocks = blocks
        self.slots = slots
        chunkPages = Int(chunkBytes >> UInt64(PageSize.target.shift))
    }

    public func check() throws(TrackerRefusal) { _ = try offeredOptions() }

    public func start() throws(TrackerRefusal) {
        let options = try offeredOptions()
        let answer = pc_kvm_set_manual_protect(machine.raw, options)
        guard answer >= 0 else {
            throw TrackerRefusal(
                "manual protection of KVM's dirty log: \(Errno(rawValue: -answer))")
        }
        for (index, slot) in slots.enumerated() {
            do throws(Errno) {
                try slot.set(isLogged: true, in: machine)
            } catch {
                endLogging(of: slots[..<index])
                throw TrackerRefusal(
                    "memory slot \(slot.number) cannot be logged: \(error); describe it as it was "
                        + "given to KVM")
            }
        }
        logs.withLock { logs in
            logs = slots.map { SlotLog(slot: $0, chunkPages: chunkPages) }
        }
    }

    /// - Throws: `ENOENT` unless tracking.
    public func sync(_ block: BlockIndex, into dirty: DirtyBitmap) throws(Errno) -> Int {
        try logs.withLock { (logs) throws(Errno) in
            guard !logs.isEmpty else { throw .noEntry }
            var added = 0
            for index in logs.indices where logs[index].slot.block == block {
                added += try logs[index].read(machine, into: dirty)
            }
            return added
        }
    }

    public func clear(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try logs.withLock { (logs) throws(Errno) in
            for index in logs.indices where logs[index].slot.block == block {
                try logs[index].clear(pages, machine)
            }
        }
    }

    /// Forgets what the last `sync` reported; a write since then is reported by the next one. Without
    /// this a later clearing of the chunk would forget a write that comes after the hint.
    /// Source: `qemu_guest_free_page_hint` of QEMU.
    public func forget(_ block: BlockIndex, _ pages: Range<Int>) throws(Errno) {
        try clear(block, pages)
    }

    public func stop() {
        let wasTracking = logs.withLock { logs in
            defer { logs = [] }
            return !logs.isEmpty
        }
        if wasTracking { endLogging(of: slots[...]) }
    }

    /// A slot that cannot be changed belongs to a machine that is going.
    private func endLogging(of slots: ArraySlice<KVMSlot>) {
        for slot in slots { try? slot.set(isLogged: false, in: machine) }
    }

    /// What to ask of the kernel's manual protection, once everything that can be checked is.
    private func offeredOptions() throws(TrackerRefusal) -> UInt64 {
        guard HostMemory.pageSize == .target else {
            throw TrackerRefusal(
                "KVM's dirty log counts this host's pages of \(HostMemory.pageSize.bytes) bytes, the "
                    + "stream pages of \(PageSize.target.bytes): use a host kernel with those")
        }
        guard !slots.isEmpty else {
            throw TrackerRefusal("no memory slot is described, so no write could be seen")
        }
        for slot in slots { try check(slot) }
        guard Set(slots.map(\.number)).count == slots.count else {
            throw TrackerRefusal("two memory slots have one number; describe each slot once")
        }
        let offer = pc_kvm_manual_protect_offer(machine.raw)
        guard offer >= 0 else {
            throw TrackerRefusal(
                "KVM_CHECK_EXTENSION: \(Errno(rawValue: -offer)); the dirty log needs the descriptor "
                    + "of a virtual machine")
        }
        let wanted = PC_KVM_MANUAL_PROTECT.rawValue | PC_KVM_INITIALLY_SET.rawValue
        let options = UInt32(offer) & wanted
        guard options & PC_KVM_MANUAL_PROTECT.rawValue != 0 else {
            throw TrackerRefusal(
                "this host's KVM lacks KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; boot Linux 5.2 or newer")
        }
        return UInt64(options)
    }

    /// A slot has fewer pages than this (`KVM_MEM_MAX_NR_PAGES`), so that 32 bits count them.
    private static let slotBytesMax = (UInt64(1) << 31 - 1) * PageSize.target.bytes

    private func check(_ slot: KVMSlot) throws(TrackerRefusal) {
        let name = "memory slot \(slot.number)"
        guard blocks.indices.contains(slot.block.rawValue) else {
            throw TrackerRefusal(
                "\(name) is of RAM block \(slot.block.rawValue), and there are \(blocks.count)")
        }
        let block = blocks[slot.block.rawValue]
        guard slot.lengthBytes > 0, slot.lengthBytes <= Self.slotBytesMax else {
            throw TrackerRefusal("\(name) is empty, or longer than KVM's slots can be")
        }
        guard block.contains(start: slot.offset, lengthBytes: slot.lengthBytes) else {
            throw TrackerRefusal("\(name) reaches beyond RAM block '\(block.name)'")
        }
        let places = slot.guestPhysicalAddress | slot.hostAddress.rawValue | slot.offset.rawValue
        guard PageSize.target.divides(places | slot.lengthBytes) else {
            throw TrackerRefusal("\(name) does not begin and end with a page")
        }
    }
}

/// The log of one slot. Chunks are counted from the slot's first page and not from the block's: the
/// kernel clears words of 64 pages of the slot, wherever that begins in its block.
private struct SlotLog: Sendable {
    let slot: KVMSlot
    private let pages: Range<Int>
    /// The kernel's log as it was last read. A page whose bit is not set here may have been written
    /// since, unknown to the dirty bitmap: clearing it would lose that write.
    private var obtained: [UInt64]
    private let uncleared: ClearBitmap

    init(slot: KVMSlot, chunkPages: Int) {
        self.slot = slot
        let first = Int(slot.offset.rawValue >> UInt64(PageSize.target.shift))
        let count = Int(slot.lengthBytes >> UInt64(PageSize.target.shift))
        pages = first..<first + count
        obtained = [UInt64](repeating: 0, count: (count + 63) / 64)
        uncleared = ClearBitmap(pageCount: count, chunkPages: chunkPages)
    }

    /// Reads the whole log; answers how many of its pages were clean in `dirty`.
    mutating func read(
        _ machine: borrowing FileDescriptor, into dirty: DirtyBitmap
    ) throws(Errno) -> Int {
        try Errno.check(unsafe pc_kvm_get_dirty_log(machine.raw, slot.number, &obtained))
        var added = 0
        for (index, word) in obtained.enumerated() where word != 0 {
            let first = index << 6
            uncleared.insert(first..<min(first + 64, pages.count))
            let page = pages.lowerBound + first
            let shift = UInt64(page & 63)
            added += dirty.insert(word: word << shift, at: page >> 6)
            // Where the slot begins inside a word of its block, each word of the log covers two.
            if shift > 0, word >> (64 - shift) != 0 {
                added += dirty.insert(word: word >> (64 - shift), at: page >> 6 + 1)
            }
        }
        return added
    }

    /// Clears the chunks that hold some of the block's pages `range` and were not cleared since the
    /// log was read.
    func clear(_ range: Range<Int>, _ machine: borrowing FileDescriptor) throws(Errno) {
        let own = range.clamped(to: pages)
        let inSlot = own.lowerBound - pages.lowerBound..<own.upperBound - pages.lowerBound
        while let chunk = uncleared.take(inSlot) {
            let answer = unsafe obtained.withUnsafeBufferPointer { words in
                unsafe pc_kvm_clear_dirty_log(
                    machine.raw, slot.number, UInt64(chunk.lowerBound), UInt32(chunk.count),
                    words.baseAddress! + chunk.lowerBound / 64)
            }
            try Errno.check(answer)
        }
    }
}
