internal import Synchronization

/// A fixed run of atomic 64-bit words: the storage of every bitmap.
///
/// Owns its memory for its whole life; any thread may use any word at any time.
@safe
public final class AtomicWords: @unchecked Sendable {
    // SAFETY: the pointer is set once, covers `count` initialized atomics and is freed in `deinit`;
    // every access is checked against `count`.
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    /// How many words there are.
    public let count: Int

    /// So many words, all of one value.
    public init(count: Int, repeating value: UInt64) {
        precondition(count >= 0)
        self.count = count
        unsafe words = .allocate(capacity: count)
        for index in 0..<count {
            unsafe (words + index).initialize(to: Atomic(value))
        }
    }

    deinit {
        unsafe words.deinitialize(count: count)
        unsafe words.deallocate()
    }

    /// Sequentially consistent, like the updates: a placer sets *received* and then looks at
    /// *requested* while the fault thread does the reverse, and at least one must see the other.
    public func load(_ index: Int) -> UInt64 {
        precondition(index >= 0 && index < count)
        return unsafe words[index].load(ordering: .sequentiallyConsistent)
    }

    /// Ordered with nothing: for a sweep over words that nobody else changes, and for a search, after
    /// which an update decides. An ordered load is no dearer on x86_64, but on aarch64 each would
    /// wait for the stores before it.
    func loadRelaxed(_ index: Int) -> UInt64 {
        precondition(index >= 0 && index < count)
        return unsafe words[index].load(ordering: .relaxed)
    }

    /// Replaces a word that nobody else changes, ordered with nothing: an ordered store costs a
    /// locked instruction, and a sweep changes millions.
    func storeRelaxed(_ value: UInt64, at index: Int) {
        precondition(index >= 0 && index < count)
        unsafe words[index].store(value, ordering: .relaxed)
    }

    /// The first word of `range` that is not `value`, as `loadRelaxed` reads it.
    func first(
        in range: Range<Int>, otherThan value: UInt64
    ) -> (index: Int, word: UInt64)? {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        var index = range.lowerBound
        while index < range.upperBound {
            if index & 7 == 0 { index = endOfLines(of: value, from: index, to: range.upperBound) }
            // Found in this line, or in what is left behind the last one.
            let lineEnd = min((index | 7) + 1, range.upperBound)
            while index < lineEnd {
                let word = unsafe words[index].load(ordering: .relaxed)
                if word != value { return (index, word) }
                index += 1
            }
        }
        return nil
    }

    /// The first line of eight words, counted from `start`, that has another word than `value`; what
    /// is left before `end` when that is less than a line. One branch for each line of the cache:
    /// memory is then what limits a search.
    func endOfLines(of value: UInt64, from start: Int, to end: Int) -> Int {
        precondition(start >= 0 && end <= count)
        var index = start
        while index + 8 <= end {
            var differing: UInt64 = 0
            for offset in 0..<8 {
                differing |= unsafe words[index + offset].load(ordering: .relaxed) ^ value
            }
            if differing != 0 { break }
            index += 8
        }
        return index
    }

    /// Sets the bits of `mask`; answers the word as it was.
    @discardableResult
    public func formUnion(_ mask: UInt64, at index: Int) -> UInt64 {
        precondition(index >= 0 && index < count)
        return unsafe words[index].bitwiseOr(mask, ordering: .sequentiallyConsistent).oldValue
    }

    /// Clears the bits of `mask`; answers the word as it was.
    @discardableResult
    public func subtract(_ mask: UInt64, at index: Int) -> UInt64 {
        precondition(index >= 0 && index < count)
        return unsafe words[index].bitwiseAnd(~mask, ordering: .sequentiallyConsistent).oldValue
    }

    /// Replaces `expected` by `desired`; answers whether it was there.
    public func exchange(_ expected: UInt64, with desired: UInt64, at index: Int) -> Bool {
        precondition(index >= 0 && index < count)
        return unsafe words[index].compareExchange(
            expected: expected, desired: desired, ordering: .sequentiallyConsistent
        ).exchanged
    }
}
