internal import CShims
internal import Glibc
public import PageModel

extension GuestRAM {
    /// Maps the file behind an open descriptor, as `init(_:sharing:guestPhysicalAddress:)` does; the
    /// descriptor may be closed afterwards.
    public convenience init(
        _ geometry: BlockGeometry, sharing file: borrowing FileDescriptor,
        guestPhysicalAddress: UInt64 = 0
    ) throws(RAMError) {
        try self.init(
            geometry, sharing: "/proc/self/fd/\(file.raw)",
            guestPhysicalAddress: guestPhysicalAddress)
    }

    /// Whether the block is mapped from a file that others may map as well.
    ///
    /// Source: `qemu_ram_is_shared` and `qemu_ram_is_named_file`, both of which QEMU asks for from 8.1
    /// on (`migrate_ram_is_ignored` in `migration/ram.c`).
    public var isShared: Bool { origin == .sharedFile }

    /// Whether other processes can map the block's memory: that of a memfd or of a file.
    public var isMappedByOthers: Bool { backing == .memfd || isShared }

    /// Whether the kernel reports missing pages of the block: of a file only in memory.
    package var canMissPages: Bool {
        switch origin {
        case .own, .given(isShared: false): return true
        case .fileContent: return false
        case .given(isShared: true): return isReportedWhenMissing
        case .sharedFile: break
        }
        return switch file {
        case .none: true
        case .some(let file): (try? SharedFile.describe(file))?.is_memory != 0
        }
    }

    /// Whether the block is read from a file that is never written.
    package var isFileContent: Bool { origin == .fileContent }

    /// Whether another `GuestRAM` maps the block's file, in this process or in another one; `false`
    /// where its file system knows no locks.
    package var hasOtherUsers: Bool {
        guard isShared else { return false }
        return switch file {
        case .none: false
        case .some(let file): SharedFile.hasOtherUsers(file)
        }
    }
}

/// A file that guest memory is mapped from. Each of its users holds a lock for many.
enum SharedFile {
    /// Opens a file that is fit to hold a block.
    static func open(
        _ path: String, for geometry: BlockGeometry
    ) throws(RAMError) -> FileDescriptor {
        let name = geometry.name
        let raw = unsafe Glibc::open(path, O_RDWR | O_CLOEXEC)
        guard raw >= 0 else { throw .openingFile(block: name, path: path, .last) }
        let file = FileDescriptor(owning: raw)
        let found: pc_file
        do { found = try describe(file) } catch {
            throw .openingFile(block: name, path: path, error)
        }
        guard found.is_regular != 0 else { throw .noRegularFile(block: name, path: path) }
        guard found.length >= geometry.lengthBytes else {
            throw .fileTooShort(
                block: name, path: path, lengthBytes: found.length,
                neededBytes: geometry.lengthBytes)
        }
        let pageBytes = found.huge_page > 0 ? found.huge_page : HostMemory.pageSize.bytes
        guard pageBytes == geometry.hostPage.bytes else {
            throw .filePageSize(
                block: name, path: path, pageBytes: pageBytes, page: geometry.hostPage)
        }
        guard pc_file_lock(file.raw, 0) != -EWOULDBLOCK else {
            throw .openingFile(block: name, path: path, .again)
        }
        return file
    }

    static func describe(_ file: borrowing FileDescriptor) throws(Errno) -> pc_file {
        var found = pc_file()
        try Errno.check(unsafe pc_file_describe(file.raw, &found))
        return found
    }

    static func hasOtherUsers(_ file: borrowing FileDescriptor) -> Bool {
        let answer = pc_file_lock(file.raw, 1)
        _ = pc_file_lock(file.raw, 0)
        return answer == -EWOULDBLOCK
    }
}
