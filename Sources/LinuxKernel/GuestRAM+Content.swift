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
    /// - Throws: what `madvise` answers.
    public func drop(from offset: RAMOffset, lengthBytes: UInt64) throws(Errno) {
        precondition(geometry.contains(start: offset, lengthBytes: lengthBytes))
        let advice = backing == .memfd ? PC_ADVICE_REMOVE : PC_ADVICE_DROP
        try Errno.check(pc_advise(address.rawValue + offset.rawValue, lengthBytes, advice))
    }

    /// Keeps the kernel from joining pages, which would place neighbours that were never received.
    /// Kernels without transparent huge pages refuse, and need nothing.
    public func avoidHugePages() {
        if backing == .hugetlb { return }
        _ = pc_advise(address.rawValue, geometry.lengthBytes, PC_ADVICE_NO_HUGE_PAGES)
    }
}
