internal import Glibc

/// Page-aligned memory in which pages wait to be placed. One thread owns it.
@safe
public struct StagingArea: ~Copyable, @unchecked Sendable {
    // SAFETY: `storage` is allocated once and freed in `deinit`; every access is checked against it.
    let storage: UnsafeMutableRawBufferPointer
    /// How many bytes it holds.
    public let capacityBytes: Int

    /// So much memory; what is in it is undefined.
    public init(capacityBytes: Int) {
        self.capacityBytes = capacityBytes
        unsafe storage = .allocate(byteCount: capacityBytes, alignment: 4096)
    }

    deinit { unsafe storage.deallocate() }

    /// Copies `source[range]` to `offset`.
    public func write(_ source: Span<UInt8>, _ range: Range<Int>, at offset: Int) {
        precondition(range.lowerBound >= 0 && range.upperBound <= source.count)
        precondition(offset >= 0 && offset <= capacityBytes - range.count)
        unsafe source.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            unsafe (storage.baseAddress! + offset).copyMemory(
                from: start + range.lowerBound, byteCount: range.count)
        }
    }

    /// Lends the first `lengthBytes` for writing.
    public func withBytes<Result, Failure: Error>(
        lengthBytes: Int, _ body: (inout MutableSpan<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(lengthBytes >= 0 && lengthBytes <= capacityBytes)
        let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: storage[..<lengthBytes])
            .assumingMemoryBound(to: UInt8.self)
        var span = unsafe bytes.mutableSpan
        return try body(&span)
    }

    /// Writes zeros.
    public func clear(at offset: Int, lengthBytes: Int) {
        precondition(offset >= 0 && lengthBytes >= 0 && offset <= capacityBytes - lengthBytes)
        _ = unsafe memset(storage.baseAddress! + offset, 0, lengthBytes)
    }
}
