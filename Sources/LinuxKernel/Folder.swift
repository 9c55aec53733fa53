internal import CShims
internal import Glibc

/// An open folder. What is done in it goes by the names of its own entries, never by a path, and so
/// stays in this folder whatever becomes of its path meanwhile.
///
/// Threads: any. Each call may wait for a disk.
/// - Precondition: everywhere, a name is not empty and holds no `/`.
public struct Folder: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    /// Opens the folder at a path.
    /// - Throws: `ENOENT`, `ENOTDIR`, `EACCES` and the like.
    public init(_ path: String) throws(Errno) {
        let raw = unsafe Glibc::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw .last }
        descriptor = FileDescriptor(owning: raw)
    }

    private init(owning raw: Int32) { descriptor = FileDescriptor(owning: raw) }

    /// Opens a folder in this one; a link is not followed (`ENOTDIR`).
    public func open(folder name: String) throws(Errno) -> Folder {
        Folder(owning: try open(name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, mode: 0))
    }

    /// Makes a folder that only this user may enter.
    /// - Throws: `EEXIST` when there is something of that name.
    public func make(folder name: String) throws(Errno) {
        try check(unsafe mkdirat(descriptor.raw, Self.checked(name), 0o700))
    }

    /// Makes an empty file that only this user may read, and opens it for writing.
    /// - Throws: `EEXIST` when there is something of that name.
    public func make(file name: String) throws(Errno) -> DiskFile {
        DiskFile(FileDescriptor(owning: try open(name, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)))
    }

    /// Opens a file for reading. A pipe is opened at once, whoever writes it.
    public func open(file name: String) throws(Errno) -> DiskFile {
        DiskFile(FileDescriptor(owning: try open(name, O_RDONLY | O_NONBLOCK, mode: 0)))
    }

    /// Removes a file of the folder.
    public func remove(file name: String) throws(Errno) {
        try check(unsafe unlinkat(descriptor.raw, Self.checked(name), 0))
    }

    /// Removes an empty folder.
    public func remove(folder name: String) throws(Errno) {
        try check(unsafe unlinkat(descriptor.raw, Self.checked(name), AT_REMOVEDIR))
    }

    /// Gives an entry another name, at once and for good once `sync` is done. Replaces nothing.
    /// - Throws: `EEXIST` when there is something of the new name.
    public func rename(_ name: String, to new: String) throws(Errno) {
        let raw = descriptor.raw
        do throws(Errno) {
            try Errno.check(
                unsafe pc_file_rename_new(raw, Self.checked(name), raw, Self.checked(new)))
        } catch .invalidArgument {
            // A file system that cannot promise it, such as NFS: somebody may come in between.
            if try holds(new) { throw .exists }
            try check(unsafe renameat(raw, name, raw, new))
        }
    }

    /// Whether there is anything of that name, be it a link that leads nowhere.
    public func holds(_ name: String) throws(Errno) -> Bool {
        do throws(Errno) {
            _ = try status(of: name)
            return true
        } catch .noEntry { return false }
    }

    /// Whether `folder` is what this one holds under `name` now.
    public func holds(_ folder: borrowing Folder, as name: String) throws(Errno) -> Bool {
        var own = stat()
        try check(unsafe fstat(folder.descriptor.raw, &own))
        do throws(Errno) {
            let found = try status(of: name)
            return own.st_dev == found.st_dev && own.st_ino == found.st_ino
        } catch .noEntry { return false }
    }

    /// The names of all entries.
    public func names() throws(Errno) -> [String] {
        let raw = unsafe openat(descriptor.raw, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard raw >= 0 else { throw .last }
        // From here on the stream owns the descriptor.
        guard let stream = unsafe fdopendir(raw) else {
            let error = Errno.last
            _ = close(raw)
            throw error
        }
        defer { _ = unsafe closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = unsafe readdir(stream) else { break }
            let name = unsafe withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw .last }
        return names
    }

    /// Locks the folder for this one alone, until it is closed or the process ends, however it ends.
    /// - Returns: `false` when another one has locked it.
    /// - Throws: what a file system without locks answers.
    public func lock() throws(Errno) -> Bool {
        do throws(Errno) {
            try Errno.check(pc_file_lock(descriptor.raw, 1))
            return true
        } catch .again { return false }
    }

    /// Waits until names that were made, changed or removed are on the disk.
    public func sync() throws(Errno) { try check(fsync(descriptor.raw)) }

    /// Bytes that this user may still write to the file system; `nil` where it has no limit of its own.
    public func freeBytes() throws(Errno) -> UInt64? {
        var status = statvfs()
        try check(unsafe fstatvfs(descriptor.raw, &status))
        guard status.f_blocks > 0 else { return nil }
        return UInt64(status.f_bavail) * UInt64(status.f_frsize)
    }

    private func open(_ name: String, _ flags: Int32, mode: mode_t) throws(Errno) -> Int32 {
        let raw = unsafe openat(descriptor.raw, Self.checked(name), flags | O_CLOEXEC, mode)
        guard raw >= 0 else { throw .last }
        return raw
    }

    private func status(of name: String) throws(Errno) -> stat {
        var status = stat()
        try check(
            unsafe fstatat(descriptor.raw, Self.checked(name), &status, AT_SYMLINK_NOFOLLOW))
        return status
    }

    private func check(_ answer: Int32) throws(Errno) {
        guard answer == 0 else { throw .last }
    }

    private static func checked(_ name: String) -> String {
        precondition(!name.isEmpty && !name.utf8.contains(UInt8(ascii: "/")), "a name in a folder")
        return name
    }
}
