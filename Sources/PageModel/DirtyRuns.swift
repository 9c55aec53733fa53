/// The dirty runs of one block in ascending order, a batch at a time: for discards, of which a large
/// guest has millions.
///
/// Nobody may change the bitmap meanwhile. Allocates: nothing.
public struct DirtyRuns: ~Copyable, Sendable {
    private let pages: PageBitmap
    /// The next word to look at, the first of a line of eight.
    private var index = 0
    /// A word whose pages are all like the last one looked at.
    private var filler: UInt64 = 0
    /// The first page of a run that goes on behind the last batch.
    private var open: Int?

    private static let lineBounds = 8 * 64

    /// What a batch needs room for: a bound at each page of a line, one of a run that was open before
    /// it and one of a run that ends with the block.
    public static let boundsMin = 1 + lineBounds + 1

    /// The runs of a bitmap from its beginning.
    public init(of bitmap: DirtyBitmap) { pages = bitmap.pages }

    /// Overwrites the start of `bounds` with the next runs: the first page of each and the page behind
    /// its last one, by turns.
    /// - Precondition: `bounds` has at least `boundsMin` elements.
    /// - Returns: how many bounds there are, an even number; 0 behind the last run.
    public mutating func next(into bounds: inout [Int]) -> Int {
        precondition(bounds.count >= Self.boundsMin)
        let words = pages.words
        var target = bounds.mutableSpan
        var count = 0
        if let first = open.take() {
            target[0] = first
            count = 1
        }
        while index < words.count, count + Self.lineBounds < target.count {
            index = words.endOfLines(of: filler, from: index, to: words.count)
            let lineEnd = min(index + 8, words.count)
            while index < lineEnd {
                let word = words.loadRelaxed(index)
                let changes = word ^ (word << 1 | filler & 1)
                Self.append(changes, of: index << 6, to: &target, at: &count)
                filler = 0 &- (word >> 63)
                index += 1
            }
        }
        guard count & 1 == 1 else { return count }
        if index == words.count {
            target[count] = pages.pageCount
            return count + 1
        }
        open = target[count - 1]
        return count - 1
    }

    /// Appends the pages of a word whose bits differ from the bit before them.
    @inline(__always)
    private static func append(
        _ changes: UInt64, of firstPage: Int, to target: inout MutableSpan<Int>, at count: inout Int
    ) {
        var rest = changes
        // Written whether it is there or not, and counted only if it is: in a sparse bitmap nobody
        // can guess which words hold a run, and a wrong guess costs more than four writes.
        for _ in 0..<4 {
            target[count] = firstPage + rest.trailingZeroBitCount
            count += rest == 0 ? 0 : 1
            rest &= rest &- 1
        }
        while rest != 0 {
            target[count] = firstPage + rest.trailingZeroBitCount
            count += 1
            rest &= rest &- 1
        }
    }
}
