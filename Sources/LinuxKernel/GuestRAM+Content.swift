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

    /// Copies what is at `offset` to all of `bytes`; a missing page blocks until it is placed.
    /// - Precondition: so many bytes are in the block.
    public func read(into bytes: inout MutableSpan<UInt8>, at offset: RAMOffset) {
        precondition(geometry.contains(start: offset, lengthBytes: UInt64(bytes.count)))
        unsafe bytes.withUnsafeMutableBytes { target in
            let source = unsafe UnsafeRawBufferPointer(
                start: base + Int(offset.rawValue), count: target.count)
            unsafe target.copyMemory(from: source)
        }
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
        guard isDroppedByRemoval else {
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

    /// Gives runs of whole host pages back, as `drop(from:lengthBytes:)` does: 1,024 in one call where
    /// the kernel can (Linux 6.13), which costs a quarter.
    public func drop(_ runs: [Range<HostPageIndex>]) throws(Errno) {
        var rest = runs[...]
        while !isDroppedByRemoval, !rest.isEmpty {
            let done = dropAtOnce(rest.prefix(Self.rangesMax))
            guard done > 0 else { break }
            rest = rest.dropFirst(done)
        }
        for run in rest {
            let start = geometry.offset(of: run.lowerBound)
            let end = geometry.offset(of: run.upperBound)
            try drop(from: start, lengthBytes: end.rawValue - start.rawValue)
        }
    }

    /// What the kernel takes of ranges in one call (`UIO_MAXIOV`).
    private static let rangesMax = 1_024

    /// Answers how many of the first runs are gone.
    private func dropAtOnce(_ runs: ArraySlice<Range<HostPageIndex>>) -> Int {
        let shift = UInt64(geometry.hostPage.shift)
        let ranges = runs.map { run in
            precondition(
                run.lowerBound.rawValue >= 0 && run.upperBound.rawValue <= geometry.hostPageCount)
            let count = UInt64(run.upperBound.rawValue - run.lowerBound.rawValue)
            return pc_range(
                start: address.rawValue + UInt64(run.lowerBound.rawValue) << shift,
                length: count << shift)
        }
        var left = unsafe pc_advise_ranges(ranges, UInt64(ranges.count), PC_ADVICE_DROP)
        for (index, range) in ranges.enumerated() {
            guard left >= Int64(range.length) else { return index }
            left -= Int64(range.length)
        }
        return ranges.count
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
