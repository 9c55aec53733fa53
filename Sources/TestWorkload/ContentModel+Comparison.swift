extension ContentModel {
    /// A word that is not what the model says.
    public struct Mismatch: Equatable, Sendable {
        public let page: Int
        public let word: Int
        public let expected: UInt64
        public let found: UInt64

        public init(page: Int, word: Int, expected: UInt64, found: UInt64) {
            self.page = page
            self.word = word
            self.expected = expected
            self.found = found
        }
    }

    /// Whether every byte of `found` is what `page` holds after `writes` writes.
    ///
    /// Allocates: no.
    /// - Precondition: `found` is exactly one page long.
    public func matches(page: Int, writes: UInt64, found: Span<UInt64>) -> Bool {
        precondition(found.count == Self.wordsPerPage)
        let key = pageKey(page)
        let rounds = WriteRounds(writes)
        let firstUnwritten = writes >= UInt64(Self.writtenWords) ? 512 : rounds.newest + 1
        var difference = found[0] ^ (initialWord(0, key: key) &+ writes)
        for index in 1..<firstUnwritten {
            guard let element = rounds.element(ofWord: index) else { return false }
            difference |= found[index] ^ Mixing.element(element, of: key)
        }
        switch kind(ofKey: key) {
        case .random:
            for index in firstUnwritten..<Self.wordsPerPage {
                let element = UInt64(truncatingIfNeeded: index)
                difference |= found[index] ^ Mixing.element(element, of: key)
            }
        case .text:
            difference |= TextWords.difference(key: key, from: firstUnwritten, found: found)
        case .zero, .mixed:
            for index in firstUnwritten..<Self.wordsPerPage { difference |= found[index] }
        }
        return difference == 0
    }

    /// The first word of `found` that differs from the model, and how many do; `nil` when none.
    ///
    /// Slower than `matches`: for pages known to differ.
    /// - Precondition: `found` is exactly one page long.
    public func mismatches(
        page: Int, writes: UInt64, found: Span<UInt64>
    ) -> (first: Mismatch, wordCount: Int)? {
        precondition(found.count == Self.wordsPerPage)
        var first: Mismatch?
        var count = 0
        for index in found.indices {
            let expected = expectedWord(index, ofPage: page, writes: writes)
            guard found[index] != expected else { continue }
            count += 1
            if first == nil {
                first = Mismatch(
                    page: page, word: index, expected: expected, found: found[index])
            }
        }
        return first.map { ($0, count) }
    }
}
