internal import CShims
internal import Glibc
public import PageModel

/// A file of a `Folder`, open for reading or for writing. One thread writes.
public struct DiskFile: ~Copyable, Sendable {
    let descriptor: FileDescriptor

    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

    /// The file's length, or `nil` when it is no regular file.
    public func lengthBytes() throws(Errno) -> UInt64? {
        let found = try SharedFile.describe(descriptor)
        return found.is_regular != 0 ? found.length : nil
    }

    /// Gives the file a length. What it gains is a hole.
    public func setLength(_ bytes: UInt64) throws(Errno) {
        guard ftruncate(descriptor.raw, off_t(bytes)) == 0 else { throw .last }
    }

    /// Writes all of `bytes` from `offset` on.
    /// - Throws: `ENOSPC`, `EDQUOT`, `EIO` and the like; a part may be written then.
    public func write(_ bytes: Span<UInt8>, at offset: UInt64) throws(Errno) {
        try unsafe bytes.withUnsafeBytes { bytes throws(Errno) in
            guard let start = bytes.baseAddress else { return }
            try unsafe write(start, bytes.count, at: offset)
        }
    }

    /// Writes a part of a block to the same place of the file, under the same terms.
    /// - Precondition: the part is in the block, and no page of it is missing.
    public func write(_ part: Range<RAMOffset>, of ram: GuestRAM) throws(Errno) {
        let start = part.lowerBound.rawValue
        let length = part.upperBound.rawValue - start
        precondition(ram.geometry.contains(start: part.lowerBound, lengthBytes: length))
        try unsafe write(ram.base + Int(start), Int(length), at: start)
    }

    /// Waits until all that was written is on the disk. When this fails, what was written before may be
    /// lost, and a second try would not say so: write it anew.
    public func sync() throws(Errno) {
        guard fsync(descriptor.raw) == 0 else { throw .last }
    }

    /// Reads up to `lengthBytes` from the start; fewer only where the file ends.
    public func read(lengthBytes: Int) throws(Errno) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: lengthBytes)
        var done = 0
        while done < lengthBytes {
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe pread(
                    descriptor.raw, buffer.baseAddress! + done, buffer.count - done, off_t(done))
            }
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .last }
            if count == 0 { break }
            done += count
        }
        bytes.removeLast(lengthBytes - done)
        return bytes
    }

    @unsafe private func write(
        _ start: UnsafeRawPointer, _ length: Int, at offset: UInt64
    ) throws(Errno) {
        var done = 0
        while done < length {
            let count = unsafe pwrite(
                descriptor.raw, start + done, length - done, off_t(offset) + off_t(done))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .last }
            guard count > 0 else { throw Errno(rawValue: EIO) }
            done += count
        }
    }
}
