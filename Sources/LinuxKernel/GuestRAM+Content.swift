internal import CShims
internal import Glibc
public import PageModel

extension GuestRAM {
    /// Whether the target page at `offset` holds only zeros. Reading anonymous memory that was
    /// never touched leaves it unallocated.
    /// - Precondition: `offset` is a multiple of the target page, inside the block.
    public func isZeroPage(at offset: RAMOffset) -> Bool {
        let length = Int(PageSize.target.bytes)
        precondition(PageSize.target.divides(offset.rawValue))
        let words = unsafe words(at: offset.rawValue, lengthBytes: length)
        // Most pages differ at once. Only the first word is tried: a look further on starts reading
        // there, and a third of the speed on pages that are zero was lost to it.
        if unsafe words[0] != 0 { return false }
        return unsafe pc_is_zero(words.baseAddress!, UInt64(length)) != 0
    }

    /// Writes `bytes` at `offset`: for memory that is not yet registered with a userfaultfd.
    /// - Precondition: the bytes fit into the block.
    public func write(_ bytes: Span<UInt8>, at offset: RAMOffset) {
        precondition(geometry.contains(start: offset, lengthBytes: UInt64(bytes.count)))
        unsafe bytes.withUnsafeBytes { source in
            guard let start = source.baseAddress else { return }
            unsafe (base + Int(offset.rawValue)).copyMemory(from: start, byteCount: source.count)
        }
    }

    /// Writes zeros over the target page at `offset`, under the same condition.
    public func clearPage(at offset: RAMOffset) {
        let length = Int(PageSize.target.bytes)
        precondition(geometry.contains(start: offset, lengthBytes: UInt64(length)))
        _ = unsafe memset(base + Int(offset.rawValue), 0, length)
    }

    /// Gives whole host pages back: they read as zeros, or fault once they are registered.
    /// - Throws: what `madvise` answers: `EINVAL` for locked memory; `EBUSY` when something holds on to
    ///   a huge page of a memfd of which a part is to go.
    public func drop(from offset: RAMOffset, lengthBytes: UInt64) throws(Errno) {
        precondition(geometry.contains(start: offset, lengthBytes: lengthBytes))
        let start = address.rawValue + offset.rawValue
        guard backing == .memfd || isShared else {
            try Errno.check(pc_advise(start, lengthBytes, PC_ADVICE_DROP))
            return
        }
        for _ in 0..<Self.removalsMax {
            try Errno.check(pc_advise(start, lengthBytes, PC_ADVICE_REMOVE))
            guard isSomeLeft(from: offset, lengthBytes: lengthBytes) else { return }
            yieldCore()
        }
        throw .busy
    }

    /// How often a removal is tried: the kernel itself holds a page for microseconds when it moves it.
    private static let removalsMax = 1_000

    /// A huge page that reaches over an end of the range is split first. The kernel cannot while
    /// somebody holds on to it, and then leaves zeros that would not fault.
    private func isSomeLeft(from offset: RAMOffset, lengthBytes: UInt64) -> Bool {
        guard lengthBytes > 0, let huge = HostMemory.hugePageSize else { return false }
        let end = offset.rawValue + lengthBytes
        func isCached(_ page: UInt64) -> Bool { pc_is_cached(address.rawValue + page) > 0 }
        return !huge.divides(offset.rawValue) && isCached(offset.rawValue)
            || !huge.divides(end) && isCached(end - geometry.hostPage.bytes)
    }
}
