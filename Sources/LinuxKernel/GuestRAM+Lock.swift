internal import CShims
internal import PageModel
internal import Synchronization

/// Whether a block is to stay in memory.
enum MemoryLock: Sendable {
    case none
    case held
    /// A postcopy drops and faults pages, and takes the lock again at its end.
    case suspended
}

extension GuestRAM {
    /// Keeps the block in memory (`mlock`): nothing of it is swapped out. Allocates all of it. hugetlb
    /// is never swapped out, and is left as it is.
    ///
    /// Not while a migration runs; a destination unlocks the block itself as long as pages are missing.
    /// - Throws: `RAMError.locking`, which names the limit and the remedy.
    public func lock() throws(RAMError) {
        try lockMemory()
        memoryLock.withLock { $0 = .held }
    }

    /// Unlocks a locked block until `resumeLock`: locked pages cannot be dropped, and locking would
    /// place those that are missing. Source: `munlockall` in `postcopy_ram_supported_by_host` of QEMU.
    public func suspendLock() {
        let isHeld = memoryLock.withLock { lock in
            guard lock == .held else { return false }
            lock = .suspended
            return true
        }
        guard isHeld, backing != .hugetlb else { return }
        _ = pc_unlock(address.rawValue, geometry.lengthBytes)
    }

    /// Locks a block again whose lock was suspended; does nothing to others.
    /// Source: `os_mlock` in `postcopy_ram_incoming_cleanup` of QEMU.
    public func resumeLock() throws(RAMError) {
        guard memoryLock.withLock({ $0 }) == .suspended else { return }
        try lock()
    }

    private func lockMemory() throws(RAMError) {
        guard backing != .hugetlb else { return }
        let (start, length) = (address.rawValue, geometry.lengthBytes)
        do { try Errno.check(pc_lock(start, length)) } catch {
            // The kernel may have locked the mapping and then failed to fill it.
            _ = pc_unlock(start, length)
            throw .locking(
                block: geometry.name, lengthBytes: length,
                limitBytes: error == .again ? nil : HostMemory.lockLimitBytes, error)
        }
    }
}
