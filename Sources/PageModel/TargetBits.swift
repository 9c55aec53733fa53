// The pages that were received, as a recovery tells them: a bit for each target page, whatever the
// host's pages are.

extension ReceivedBitmap {
    /// Appends a bit for each of the first `pageCount` target pages, set when its host page is placed;
    /// the rest of the last word is zero. What is placed meanwhile may be missing, and is never wrong.
    ///
    /// Layout: words of 64 pages, each little-endian, the first page in the lowest bit.
    /// Source: `ramblock_recv_bitmap_send` (`migration/ram.c`).
    /// - Precondition: the block has that many target pages.
    public func appendTargetBits(pageCount: Int, to output: inout [UInt8]) {
        precondition(pageCount >= 0 && pageCount <= pages.pageCount * pagesPerHostPage)
        let wordCount = (pageCount + 63) / 64
        let start = output.count
        output.append(contentsOf: repeatElement(0, count: wordCount * 8))
        guard wordCount > 0 else { return }
        let groups = BitGroups(bitsPerGroup: min(pagesPerHostPage, 32))
        var bytes = output.mutableSpan
        for index in 0..<wordCount {
            var word = targetWord(at: index, groups)
            if word == 0 { continue }
            if index == wordCount - 1 { word &= .max >> UInt64(wordCount << 6 - pageCount) }
            for byte in 0..<8 {
                bytes[start + index << 3 + byte] = UInt8(
                    truncatingIfNeeded: word >> UInt64(byte * 8))
            }
        }
    }

    /// The word of 64 target pages whose lowest byte stands at `index` of bits in this layout.
    public static func word(in bytes: Span<UInt8>, at index: Int) -> UInt64 {
        var word: UInt64 = 0
        for byte in 0..<8 { word |= UInt64(bytes[index + byte]) << UInt64(byte * 8) }
        return word
    }

    private func targetWord(at index: Int, _ groups: BitGroups) -> UInt64 {
        guard pagesPerHostPage > 1 else { return pages.words.load(index) }
        guard pagesPerHostPage < 64 else {
            return pages.contains(index << 6 / pagesPerHostPage) ? .max : 0
        }
        // The host pages of one target word never cross a word of their own.
        let first = index << 6 / pagesPerHostPage
        let bits = pages.words.load(first >> 6) >> UInt64(first & 63)
        let count = UInt64(64 / pagesPerHostPage)
        return groups.spread(bits & (1 << count - 1))
    }
}

extension DirtyBitmap {
    /// Makes the pages of one word those that the peer has not received: of the 64 target pages from
    /// page `64 * wordIndex`, as far as they are below `pageCount`, and clean behind it. For a thread
    /// that has the bitmap to itself.
    /// - Precondition: the block has `pageCount` target pages, and one of them is in the word.
    public func setMissing(receivedWord: UInt64, at wordIndex: Int, pageCount: Int) {
        precondition(pageCount <= pages.pageCount)
        precondition(wordIndex >= 0 && wordIndex << 6 < pageCount)
        let inside: UInt64 = .max >> UInt64(max(0, (wordIndex + 1) << 6 - pageCount))
        pages.words.storeRelaxed(~receivedWord & inside, at: wordIndex)
    }

    /// Makes every host page dirty whole that is dirty in part, so that claims may begin. For a thread
    /// that has the bitmap to itself.
    public func completeHostPages() {
        let pagesPerHostPage = block.hostPage.targetPages
        guard pagesPerHostPage > 1 else { return }
        let words = pages.words
        guard pagesPerHostPage < 64 else {
            return completeWholeWords(wordsPerHostPage: pagesPerHostPage / 64)
        }
        let groups = BitGroups(bitsPerGroup: pagesPerHostPage)
        for index in 0..<words.count {
            let word = words.loadRelaxed(index)
            // A block is whole host pages: none reaches beyond the last target page.
            if word != 0 { words.storeRelaxed(groups.filled(word), at: index) }
        }
    }

    private func completeWholeWords(wordsPerHostPage: Int) {
        let words = pages.words
        for lower in stride(from: 0, to: words.count, by: wordsPerHostPage) {
            let hostPage = lower..<lower + wordsPerHostPage
            guard hostPage.contains(where: { words.loadRelaxed($0) != 0 }) else { continue }
            for index in hostPage { words.storeRelaxed(.max, at: index) }
        }
    }
}
