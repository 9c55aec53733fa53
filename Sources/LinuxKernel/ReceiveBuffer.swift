internal import Glibc

/// Bytes that were received and not yet decoded. One thread owns it.
@safe
public struct ReceiveBuffer: ~Copyable, @unchecked Sendable {
    // SAFETY: `storage` is allocated once and freed in `deinit`; start <= end <= capacityBytes.
    private let storage: UnsafeMutableRawBufferPointer
    private let capacityBytes: Int
    private var start = 0
    private var end = 0

    /// - Parameter capacityBytes: at least the longest item a decoder wants whole.
    public init(capacityBytes: Int) {
        precondition(capacityBytes > 0)
        self.capacityBytes = capacityBytes
        unsafe storage = .allocate(byteCount: capacityBytes, alignment: 64)
    }

    deinit { unsafe storage.deallocate() }

    /// The bytes that are here and not consumed.
    public var count: Int { end - start }

    /// Receives what is there behind the bytes held.
    /// - Returns: the bytes received; 0 at the peer's end; `nil` when nothing is there and `wait` is
    ///   false.
    /// - Precondition: the buffer is not full of bytes that nobody consumed.
    public mutating func fill(
        from socket: borrowing StreamSocket, wait: Bool
    ) throws(Errno) -> Int? {
        if start > 0 {
            // Less than one item is left here as a rule, so this moves little.
            unsafe storage.baseAddress!.copyMemory(
                from: storage.baseAddress! + start, byteCount: count)
            end -= start
            start = 0
        }
        precondition(end < capacityBytes)
        let free = unsafe UnsafeMutableRawBufferPointer(rebasing: storage[end...])
        let received = try unsafe socket.receive(into: free, wait: wait)
        end += received ?? 0
        return received
    }

    /// Appends bytes that somebody else received.
    /// - Precondition: they fit.
    public mutating func append(_ bytes: [UInt8]) {
        precondition(bytes.count <= capacityBytes - end)
        unsafe bytes.withUnsafeBytes { source in
            guard let first = source.baseAddress else { return }
            unsafe (storage.baseAddress! + end).copyMemory(from: first, byteCount: source.count)
        }
        end += bytes.count
    }

    /// Lends the bytes held.
    public func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let held = unsafe UnsafeRawBufferPointer(rebasing: storage[start..<end])
        return try unsafe body(held.assumingMemoryBound(to: UInt8.self).span)
    }

    /// A copy of the bytes held.
    public var bytes: [UInt8] {
        unsafe Array(UnsafeRawBufferPointer(rebasing: storage[start..<end]))
    }

    /// Drops the first `byteCount` bytes held.
    public mutating func consume(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count)
        start += byteCount
    }
}
