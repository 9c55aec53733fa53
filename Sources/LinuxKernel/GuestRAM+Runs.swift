public import PageModel

extension GuestRAM {
    /// The next target pages in `range` that do not hold only zeros, as one run; `nil` when none are
    /// left. Memory that was never touched is not allocated by that, of a memfd neither.
    ///
    /// Nobody should write meanwhile, and no page may be missing.
    /// - Precondition: `range` is whole target pages of the block.
    /// - Throws: what the kernel answers when asked where a memfd or a file has data.
    public func nextNonZeroRun(
        in range: Range<RAMOffset>
    ) throws(Errno) -> Range<RAMOffset>? {
        let (start, end) = (range.lowerBound.rawValue, range.upperBound.rawValue)
        precondition(PageSize.target.divides(start) && PageSize.target.divides(end))
        precondition(geometry.contains(start: range.lowerBound, lengthBytes: end - start))
        var from = start
        while let data = try data(from: from, upTo: end) {
            if let run = nonZeroRun(in: data) { return run }
            from = data.upperBound
        }
        return nil
    }

    /// The next part, in target pages, that may hold something.
    private func data(from: UInt64, upTo end: UInt64) throws(Errno) -> Range<UInt64>? {
        guard from < end else { return nil }
        switch file {
        case .none: return from..<end
        case .some(let file):
            let found = try FileData.run(of: file, from: from, lengthBytes: end)
            guard let found else { return nil }
            let page = PageSize.target.bytes
            return found.lowerBound
                & ~(page - 1)..<min(
                    end, (found.upperBound + page - 1) & ~(page - 1))
        }
    }

    private func nonZeroRun(in data: Range<UInt64>) -> Range<RAMOffset>? {
        let page = PageSize.target.bytes
        func isZero(_ offset: UInt64) -> Bool { isZeroPage(at: RAMOffset(rawValue: offset)) }
        var first = data.lowerBound
        while first < data.upperBound, isZero(first) { first += page }
        guard first < data.upperBound else { return nil }
        var end = first + page
        while end < data.upperBound, !isZero(end) { end += page }
        return RAMOffset(rawValue: first)..<RAMOffset(rawValue: end)
    }
}
