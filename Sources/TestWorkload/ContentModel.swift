/// What every page holds, from the seed, the fill and the number of writes to the page alone.
///
/// A page is 512 words of 64 bits, little-endian in memory as on the processors served. The write
/// number k to a page, from 1 on, adds 1 to word 0 (wrapping) and sets word `1 + (k - 1) % 511` to
/// a value of its own. So word 0 tells how many writes a page has seen, and a lost write, an older
/// copy or another page's content is visible there and in the word that was written.
public struct ContentModel: Sendable {
    public static let wordsPerPage = 512
    /// The words that writes go round.
    static let writtenWords = 511

    public let fill: InitialFill
    let seedKey: UInt64

    public init(specification: WorkloadSpecification) {
        self.init(seed: specification.seed, fill: specification.fill)
    }

    public init(seed: UInt64, fill: InitialFill) {
        self.fill = fill
        seedKey = Mixing.finish(seed &+ Mixing.golden)
    }

    /// The content of `page` after `writes` writes.
    /// - Precondition: `words` is exactly one page long.
    public func expectedPage(
        _ page: Int, writes: UInt64, into words: inout MutableSpan<UInt64>
    ) {
        precondition(words.count == Self.wordsPerPage)
        let key = pageKey(page)
        switch kind(ofKey: key) {
        case .random:
            for index in words.indices {
                words[index] = Mixing.element(UInt64(truncatingIfNeeded: index), of: key)
            }
        case .text:
            TextWords.write(key: key, into: &words)
        case .zero, .mixed:
            words.update(repeating: 0)
        }
        guard writes > 0 else { return }
        words[0] &+= writes
        let rounds = WriteRounds(writes)
        for index in 1..<Self.wordsPerPage {
            guard let element = rounds.element(ofWord: index) else { break }
            words[index] = Mixing.element(element, of: key)
        }
    }

    /// The word `index` of `page` after `writes` writes.
    public func expectedWord(_ index: Int, ofPage page: Int, writes: UInt64) -> UInt64 {
        let key = pageKey(page)
        if index == 0 { return initialWord(0, key: key) &+ writes }
        if let element = WriteRounds(writes).element(ofWord: index) {
            return Mixing.element(element, of: key)
        }
        return initialWord(index, key: key)
    }

    /// Whether `page` is all zero before the first write to it.
    public func isInitiallyZero(page: Int) -> Bool { kind(ofKey: pageKey(page)) == .zero }

    @inline(__always)
    func pageKey(_ page: Int) -> UInt64 {
        Mixing.finish(seedKey ^ (UInt64(truncatingIfNeeded: page) &* 0xD6E8_FEB8_6659_FD93))
    }

    /// The value that write number `write`, from 1 on, puts into its word.
    @inline(__always)
    func writtenValue(key: UInt64, write: UInt64) -> UInt64 {
        Mixing.element(UInt64(Self.writtenWords) &+ write, of: key)
    }

    @inline(__always)
    func initialWord(_ index: Int, key: UInt64) -> UInt64 {
        switch kind(ofKey: key) {
        case .random: Mixing.element(UInt64(truncatingIfNeeded: index), of: key)
        case .text: TextWords.word(index, key: key)
        case .zero, .mixed: 0
        }
    }

    /// The fill of one page: `mixed` is resolved, the others are themselves.
    @inline(__always)
    func kind(ofKey key: UInt64) -> InitialFill {
        switch fill {
        case .random, .text, .zero: return fill
        case .mixed:
            switch Mixing.scale(key >> 32, below: 3) {
            case 0: return .random
            case 1: return .text
            default: return .zero
            }
        }
    }
}

/// Which write put which word there, when the writes go round the 511 words of a page.
struct WriteRounds {
    /// Words 1...newest are of the round in progress.
    let newest: Int
    /// The stream element of word 1 in the round in progress.
    private let base: UInt64
    private let isFirst: Bool

    init(_ writes: UInt64) {
        let (rounds, rest) = writes.quotientAndRemainder(
            dividingBy: UInt64(ContentModel.writtenWords))
        newest = Int(rest)
        base = (rounds &+ 1) &* UInt64(ContentModel.writtenWords)
        isFirst = rounds == 0
    }

    /// The element of the page's stream that stands in word `index` (1...511), or `nil` when no
    /// write has reached it.
    @inline(__always)
    func element(ofWord index: Int) -> UInt64? {
        let word = UInt64(truncatingIfNeeded: index)
        if index <= newest { return base &+ word }
        return isFirst ? nil : base &- UInt64(ContentModel.writtenWords) &+ word
    }
}
