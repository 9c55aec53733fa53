public import PageModel

/// Finds, from the start of a block to its end, the target pages that hold something else than zeros.
/// Memory that was never touched is not allocated by that, of a memfd neither.
///
/// Nobody may write the block meanwhile, and no page may be missing.
public struct NonZeroRuns {
    private let ram: GuestRAM
    /// Where the block has data first, at or behind `askedFrom`: to find the end of that, the kernel
    /// walks all of it, and is asked once.
    private var data: Range<UInt64>
    private var askedFrom: UInt64 = 0

    /// The runs of a block from its beginning.
    public init(of ram: GuestRAM) {
        self.ram = ram
        // Who has no file is not asked, and may have data anywhere.
        data = ram.rawFile == nil ? 0..<ram.geometry.lengthBytes : 0..<0
    }

    /// The next such pages in `range`, as one run; `nil` when none are left.
    /// - Precondition: `range` is whole target pages of the block.
    /// - Throws: what the kernel answers when asked where a memfd or a file has data.
    public mutating func next(in range: Range<RAMOffset>) throws(Errno) -> Range<RAMOffset>? {
        let (start, end) = (range.lowerBound.rawValue, range.upperBound.rawValue)
        precondition(PageSize.target.divides(start) && PageSize.target.divides(end))
        precondition(
            ram.geometry.contains(start: range.lowerBound, lengthBytes: end - start))
        var from = start
        while let data = try nextData(from: from, upTo: end) {
            if let run = nonZeroRun(in: data) { return run }
            from = data.upperBound
        }
        return nil
    }

    /// The next part, in target pages, that may hold something.
    private mutating func nextData(
        from: UInt64, upTo end: UInt64
    ) throws(Errno) -> Range<UInt64>? {
        guard from < end else { return nil }
        if from < askedFrom || from >= data.upperBound { try ask(from: from) }
        let start = max(from, data.lowerBound)
        return start < end ? start..<min(end, data.upperBound) : nil
    }

    private mutating func ask(from: UInt64) throws(Errno) {
        let length = ram.geometry.lengthBytes
        let page = PageSize.target.bytes
        askedFrom = from
        data = length..<length
        guard let file = ram.rawFile else {
            data = 0..<length
            return
        }
        let found = try FileData.run(of: file, from: from, lengthBytes: length)
        guard let found else { return }
        let end = (found.upperBound + page - 1) & ~(page - 1)
        data = found.lowerBound & ~(page - 1)..<min(end, length)
    }

    private func nonZeroRun(in data: Range<UInt64>) -> Range<RAMOffset>? {
        let page = PageSize.target.bytes
        func isZero(_ offset: UInt64) -> Bool {
            ram.isZeroPage(at: RAMOffset(rawValue: offset))
        }
        var first = data.lowerBound
        while first < data.upperBound, isZero(first) { first += page }
        guard first < data.upperBound else { return nil }
        var end = first + page
        while end < data.upperBound, !isZero(end) { end += page }
        return RAMOffset(rawValue: first)..<RAMOffset(rawValue: end)
    }
}

extension GuestRAM {
    /// Asked for here and not lent: the optimizer (Swift 6.3.1) crashes on the descriptor in its optional
    /// where it is reached through another type.
    fileprivate var rawFile: Int32? {
        switch file {
        case .some(let file): file.raw
        case .none: nil
        }
    }
}
