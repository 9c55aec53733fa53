/// What processes that share a guest's memory find in a page, and the mark that one of them leaves there.
public enum SharedContent {
    /// Where in a page the mark is: its last word.
    public static let markOffset: UInt64 = 4096 - 8

    public static func mark(ofPage page: Int) -> UInt64 {
        0xC11E_0000_0000_0000 | UInt64(truncatingIfNeeded: page)
    }

    /// Whether a page holds what the model says, but for a mark.
    /// - Precondition: `words` is exactly one page long.
    public static func isRight(
        _ model: ContentModel, page: Int, _ words: Span<UInt64>
    ) -> Bool {
        if model.matches(page: page, writes: 0, found: words) { return true }
        // The mark may have come meanwhile; it stays.
        let last = ContentModel.wordsPerPage - 1
        return words[last] == mark(ofPage: page)
            && (0..<last).allSatisfy { index in
                words[index] == model.expectedWord(index, ofPage: page, writes: 0)
            }
    }
}
