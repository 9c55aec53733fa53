internal import Synchronization

/// A fixed run of atomic 64-bit words: the storage of every bitmap.
///
/// Owns its memory for its whole life; any thread may use any word at any time.
@safe
public final class AtomicWords: @unchecked Sendable {
    // SAFETY: the pointer is set once, covers `count` initialized atomics and is freed in `deinit`;
    // every access is checked against `count`.
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    public let count: Int

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
