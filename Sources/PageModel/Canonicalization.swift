extension DirtyBitmap {
    /// Makes the dirty pages those that the destination must drop and is owed from then on: once, at
    /// the switch to postcopy, with the guest stopped and no sender at work.
    ///
    /// Never sent means dirty, even where a free-page hint has cleared the bit: the destination's
    /// kernel may have made such a page present as part of a transparent huge page. A host page that
    /// is dirty in part, or was sent in part, becomes wholly dirty.
    /// - Parameter sent: one bit for each target page, set once the page was sent.
    /// - Returns: how many target pages became dirty.
    ///
    /// Source: `ram_postcopy_send_discard_bitmap`, `postcopy_chunk_hostpages_pass`
    /// (`migration/ram.c`).
    @discardableResult
    public func canonicalize(sent: PageBitmap) -> Int {
        pages.canonicalize(sent: sent, pagesPerHostPage: block.hostPage.targetPages)
    }
}

extension PageBitmap {
    /// `DirtyBitmap.canonicalize` for any number of pages; the last host page may be a part of one.
    /// Reads both bitmaps once and writes only words that change.
    ///
    /// A host page that was sent in part holds a page never sent, which is dirty for that reason. So
    /// what is owed is `dirty | ~sent`, spread over every host page that has some of it.
    /// - Precondition: both bitmaps have as many pages; `pagesPerHostPage` is a power of two.
    @discardableResult
    public func canonicalize(sent: PageBitmap, pagesPerHostPage: Int) -> Int {
        precondition(sent.pageCount == pageCount)
        precondition(pagesPerHostPage > 0 && pagesPerHostPage.nonzeroBitCount == 1)
        switch pagesPerHostPage {
        case 1: return replaceEachWord(sent: sent) { $0 }
        case 2..<64:
            let groups = BitGroups(bitsPerGroup: pagesPerHostPage)
            return replaceEachWord(sent: sent, by: groups.filled)
        default: return fillWholeWords(sent: sent, wordsPerHostPage: pagesPerHostPage / 64)
        }
    }

    private func replaceEachWord(
        sent: PageBitmap, by owed: (UInt64) -> UInt64
    ) -> Int {
        var added = 0
        for index in 0..<words.count {
            let inside = pages(inWord: index)
            let dirty = words.loadRelaxed(index)
            let new = owed((dirty | ~sent.words.loadRelaxed(index)) & inside) & inside
            if new != dirty {
                words.storeRelaxed(new, at: index)
                added += (new & ~dirty).nonzeroBitCount
            }
        }
        return added
    }

    private func fillWholeWords(sent: PageBitmap, wordsPerHostPage: Int) -> Int {
        var added = 0
        for lower in stride(from: 0, to: words.count, by: wordsPerHostPage) {
            let hostPage = lower..<min(lower + wordsPerHostPage, words.count)
            guard owesSome(of: hostPage, sent: sent) else { continue }
            for index in hostPage {
                let inside = pages(inWord: index)
                let dirty = words.loadRelaxed(index)
                if dirty != inside {
                    words.storeRelaxed(inside, at: index)
                    added += (inside & ~dirty).nonzeroBitCount
                }
            }
        }
        return added
    }

    private func owesSome(of hostPage: Range<Int>, sent: PageBitmap) -> Bool {
        for index in hostPage {
            let owed = words.loadRelaxed(index) | ~sent.words.loadRelaxed(index)
            if owed & pages(inWord: index) != 0 { return true }
        }
        return false
    }

    /// The bits of a word that stand for pages: all of them, but for the last word.
    func pages(inWord index: Int) -> UInt64 {
        .max >> UInt64(max(0, (index + 1) << 6 - pageCount))
    }
}

/// A word as groups of 2, 4, 8, 16 or 32 bits.
struct BitGroups {
    let bitsPerGroup: UInt64
    /// The lowest bit of each group.
    let lowestBits: UInt64

    init(bitsPerGroup: Int) {
        self.bitsPerGroup = UInt64(bitsPerGroup)
        lowestBits = .max / (1 << self.bitsPerGroup - 1)
    }

    /// `word` with every group full that has a set bit.
    func filled(_ word: UInt64) -> UInt64 {
        var lowest = word
        var shift: UInt64 = 1
        // What comes down from the group above stays above the lowest bit.
        while shift < bitsPerGroup {
            lowest |= lowest >> shift
            shift <<= 1
        }
        lowest &= lowestBits
        return (lowest << bitsPerGroup) &- lowest
    }

    /// The word whose groups are full where the lowest `64 / bitsPerGroup` bits of `bits` are set, the
    /// lowest group for the lowest bit.
    func spread(_ bits: UInt64) -> UInt64 {
        // Halves go apart until each bit stands lowest in its group.
        var (word, half) = (bits, 32 / bitsPerGroup)
        while half > 0 {
            let shift = half * (bitsPerGroup - 1)
            let kept = Self.alternating(half * bitsPerGroup, of: half)
            word = (word | word << shift) & kept
            half /= 2
        }
        return (word << bitsPerGroup) &- word
    }

    /// The lowest `count` bits of every run of `period` bits.
    private static func alternating(_ period: UInt64, of count: UInt64) -> UInt64 {
        (.max / (.max >> (64 - period))) &* (1 << count - 1)
    }
}
