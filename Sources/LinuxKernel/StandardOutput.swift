internal import CShims
internal import Glibc

/// The standard output of this process, where it is a pipe that somebody may not read.
public enum StandardOutput {
    /// A page, and POSIX's `PIPE_BUF` on Linux: a pipe that has room at all has room for this, and no
    /// part of it is written alone.
    public static let atOnceBytesMax = 4096

    /// Writes all of `bytes`, or nothing where that had to wait. One thread writes there.
    /// - Returns: whether they were written.
    /// - Precondition: there are at most `atOnceBytesMax`.
    @discardableResult
    public static func writeAtOnce(_ bytes: [UInt8]) -> Bool {
        precondition(bytes.count <= atOnceBytesMax)
        var entry = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        guard unsafe poll(&entry, 1, 0) == 1, entry.revents == Int16(POLLOUT) else { return false }
        return unsafe bytes.withUnsafeBytes { buffer in
            unsafe write(STDOUT_FILENO, buffer.baseAddress, buffer.count) == buffer.count
        }
    }
}
