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
        // Most pages differ in their first bytes: look there before the long way.
        if unsafe words[0] | words[words.count / 2] | words[words.count - 1] != 0 { return false }
        let lanes = UnsafeRawPointer(words.baseAddress!)
        var offset = 0
        while offset < length {
            var sum = SIMD8<UInt64>()
            for step in 0..<4 {
                let at = offset + step * MemoryLayout<SIMD8<UInt64>>.size
                unsafe sum |= lanes.load(fromByteOffset: at, as: SIMD8<UInt64>.self)
            }
            if sum != SIMD8<UInt64>() { return false }
            offset += 4 * MemoryLayout<SIMD8<UInt64>>.size
        }
        return true
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
