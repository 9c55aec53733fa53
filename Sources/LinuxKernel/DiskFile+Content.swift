internal import CShims
internal import Glibc

extension DiskFile {
    /// Opens the file at a path for reading. A pipe is opened at once, whoever writes it.
    public init(reading path: String) throws(Errno) {
        let raw = unsafe Glibc::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard raw >= 0 else { throw .last }
        self.init(FileDescriptor(owning: raw))
    }

    /// Gives a file the name of another on the same disk, which then is no more.
    public static func move(_ draft: String, onto path: String) throws(Errno) {
        guard unsafe Glibc::rename(draft, path) == 0 else { throw .last }
    }

    /// Puts a file of these bytes where `path` is, in one step: whoever opens it finds the old one whole or
    /// the new one. Only this user may read it.
    public static func replace(_ path: String, with bytes: Span<UInt8>) throws(Errno) {
        let draft = "\(path).\(getpid()).new"
        let raw = unsafe Glibc::open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard raw >= 0 else { throw .last }
        let file = DiskFile(FileDescriptor(owning: raw))
        do throws(Errno) {
            try file.write(bytes, at: 0)
            try file.sync()
            try move(draft, onto: path)
        } catch {
            _ = unsafe Glibc::unlink(draft)
            throw error
        }
    }

    /// Fills `bytes` from `offset` on. Any thread, several at once.
    /// - Throws: `EIO` and the like; `ENODATA` when the file ends before.
    public func read(_ bytes: inout MutableSpan<UInt8>, at offset: UInt64) throws(Errno) {
        try unsafe bytes.withUnsafeMutableBytes { buffer throws(Errno) in
            var done = 0
            while done < buffer.count {
                let count = unsafe pread(
                    descriptor.raw, buffer.baseAddress! + done, buffer.count - done,
                    off_t(offset) + off_t(done))
                if count < 0, errno == EINTR { continue }
                guard count >= 0 else { throw .last }
                guard count > 0 else { throw Errno(rawValue: ENODATA) }
                done += count
            }
        }
    }

    /// Whether the file holds no data in a range, which reads as zeros; `false` where its file system does
    /// not tell.
    public func isHole(at offset: UInt64, lengthBytes: UInt64) -> Bool {
        let data = pc_file_seek(descriptor.raw, offset, 0)
        return data == Int64(-ENXIO) || data >= Int64(offset + lengthBytes)
    }
}
