/// One atomic bit for each page of a block, searched and changed 64 pages at a time.
///
/// The unit (target page, host page, chunk of pages) is the user's; `ReceivedBitmap`, `DirtyBitmap` and
/// `ClearBitmap` fix it.
public final class PageBitmap: Sendable {
    /// How many pages there are.
    public let pageCount: Int
    let words: AtomicWords

    /// So many pages, all in the set or none.
    public init(pageCount: Int, allSet: Bool) {
        precondition(pageCount >= 0)
        self.pageCount = pageCount
        words = AtomicWords(count: (pageCount + 63) / 64, repeating: allSet ? .max : 0)
        if allSet, pageCount % 64 != 0 {
            words.subtract(~PageBitmap.mask(0..<pageCount % 64), at: words.count - 1)
        }
    }

    /// Whether a page is in the set.
    public func contains(_ page: Int) -> Bool {
        precondition(page >= 0 && page < pageCount)
        return words.load(page >> 6) & (1 << UInt64(page & 63)) != 0
    }

    /// Sets the bit of `page`; answers whether it was clear before.
    @discardableResult
    public func insert(_ page: Int) -> Bool {
        precondition(page >= 0 && page < pageCount)
        let bit: UInt64 = 1 << UInt64(page & 63)
        return words.formUnion(bit, at: page >> 6) & bit == 0
    }

    /// Clears the bit of `page`; answers whether it was set before.
    @discardableResult
    public func remove(_ page: Int) -> Bool {
        precondition(page >= 0 && page < pageCount)
        let bit: UInt64 = 1 << UInt64(page & 63)
        return words.subtract(bit, at: page >> 6) & bit != 0
    }

    /// Sets the bits of `pages`; answers how many were clear before.
    @discardableResult
    public func insert(_ pages: Range<Int>) -> Int {
        var changed = 0
        forEachWord(of: pages) { index, mask in
            changed += (mask & ~words.formUnion(mask, at: index)).nonzeroBitCount
        }
        return changed
    }

    /// Clears the bits of `pages`; answers how many were set before.
    @discardableResult
    public func remove(_ pages: Range<Int>) -> Int {
        var changed = 0
        forEachWord(of: pages) { index, mask in
            changed += (mask & words.subtract(mask, at: index)).nonzeroBitCount
        }
        return changed
    }

    /// Sets the bits of `mask` in word `index`, page `64 * index` in its lowest bit; answers how many
    /// were clear before. Bits beyond the last page are dropped.
    @discardableResult
    public func formUnion(_ mask: UInt64, at index: Int) -> Int {
        let inside = mask & PageBitmap.mask(0..<min(64, pageCount - index << 6))
        return (inside & ~words.formUnion(inside, at: index)).nonzeroBitCount
    }

    /// Clears the word of pages `64 * index` and the 63 behind it; answers it as it was.
    public func takeWord(at index: Int) -> UInt64 {
        // Most words are empty: looking first leaves their cache lines to whoever sets bits.
        words.load(index) == 0 ? 0 : words.subtract(.max, at: index)
    }

    /// How many words of 64 pages the bitmap has; the last may be partly used.
    public var wordCount: Int { words.count }

    /// Clears the bits that `other` has set.
    /// - Precondition: both have as many pages.
    public func subtract(_ other: PageBitmap) {
        precondition(other.pageCount == pageCount)
        for index in 0..<words.count { words.subtract(other.words.load(index), at: index) }
    }

    /// How many pages are in it. It reads the whole set.
    public var setCount: Int {
        var count = 0
        for index in 0..<words.count { count += words.load(index).nonzeroBitCount }
        return count
    }

    /// The first set page at or after `start`, or `nil`. Ordered with nothing: who wants the page
    /// takes it by an update.
    public func firstSet(from start: Int) -> Int? { first(from: start, otherThan: 0) }

    /// The first set page of `pages`, or `nil`; looks no further than its end. Ordered like
    /// `AtomicWords.load`, so that `nil` can be relied on.
    public func firstSet(in pages: Range<Int>) -> Int? {
        precondition(pages.lowerBound >= 0 && pages.upperBound <= pageCount)
        return first(in: pages, otherThan: 0)
    }

    /// The first clear page of `pages`, or `nil`; looks no further than its end, and is ordered as
    /// `firstSet(in:)`.
    public func firstClear(in pages: Range<Int>) -> Int? {
        precondition(pages.lowerBound >= 0 && pages.upperBound <= pageCount)
        return first(in: pages, otherThan: .max)
    }

    private func first(in pages: Range<Int>, otherThan filler: UInt64) -> Int? {
        guard !pages.isEmpty else { return nil }
        var index = pages.lowerBound >> 6
        var word = (words.load(index) ^ filler) & (.max << UInt64(pages.lowerBound & 63))
        while word == 0 {
            index += 1
            guard index << 6 < pages.upperBound else { return nil }
            word = words.load(index) ^ filler
        }
        let page = index << 6 + word.trailingZeroBitCount
        return page < pages.upperBound ? page : nil
    }

    /// The first clear page at or after `start`, or `nil`; ordered with nothing.
    public func firstClear(from start: Int) -> Int? { first(from: start, otherThan: .max) }

    /// The next run of set pages at or after `start`.
    public func nextRun(from start: Int) -> Range<Int>? {
        guard let lower = firstSet(from: start) else { return nil }
        return lower..<(firstClear(from: lower) ?? pageCount)
    }

    /// Clears the first run of set pages at or after `start` and answers it: at most `countMax`
    /// pages and never across a word, so that one exchange owns the whole run or none of it.
    public func takeRun(from start: Int, countMax: Int) -> Range<Int>? {
        precondition(countMax > 0)
        var from = start
        while let lower = firstSet(from: from) {
            let word = words.load(lower >> 6)
            let shifted = word >> UInt64(lower & 63)
            let length = min((~shifted).trailingZeroBitCount, countMax, 64 - (lower & 63))
            if length > 0 {
                let run = lower..<lower + length
                let mask = PageBitmap.mask((lower & 63)..<(lower & 63) + length)
                if words.exchange(word, with: word & ~mask, at: lower >> 6) { return run }
            }
            from = lower
        }
        return nil
    }

    /// The first page at or after `start` whose bit differs from those of `filler`.
    private func first(from start: Int, otherThan filler: UInt64) -> Int? {
        precondition(start >= 0)
        guard start < pageCount else { return nil }
        var index = start >> 6
        var differing = (words.loadRelaxed(index) ^ filler) & (.max << UInt64(start & 63))
        if differing == 0 {
            guard let found = words.first(in: index + 1..<words.count, otherThan: filler) else {
                return nil
            }
            index = found.index
            differing = found.word ^ filler
        }
        let page = index << 6 + differing.trailingZeroBitCount
        // The last word's bits behind the last page are clear.
        return page < pageCount ? page : nil
    }

    private func forEachWord(of pages: Range<Int>, _ body: (Int, UInt64) -> Void) {
        precondition(pages.lowerBound >= 0 && pages.upperBound <= pageCount)
        var page = pages.lowerBound
        while page < pages.upperBound {
            let index = page >> 6
            let end = min(pages.upperBound, (index + 1) << 6)
            body(index, PageBitmap.mask(page & 63..<(page & 63) + (end - page)))
            page = end
        }
    }

    private static func mask(_ bits: Range<Int>) -> UInt64 {
        guard !bits.isEmpty else { return 0 }
        return (.max >> UInt64(64 - bits.count)) << UInt64(bits.lowerBound)
    }
}
