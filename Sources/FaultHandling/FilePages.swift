public import LinuxKernel
public import PageModel

/// Pages from a memory file: each block's content in one piece, holes as zeros.
///
/// The file must stay as it is while it is read from.
public struct FilePages: PageProvider {
    private let content: Content
    /// Where each block's content begins in the file.
    private let starts: [UInt64]
    /// How long the file is.
    public let lengthBytes: UInt64

    private final class Content: Sendable {
        let file: DiskFile
        let path: String

        init(_ file: consuming DiskFile, path: String) {
            self.file = file
            self.path = path
        }

        /// Whether the file still has so many bytes: behind its end is no hole.
        func reaches(_ end: UInt64) -> Bool {
            do throws(Errno) { return try file.lengthBytes() ?? 0 >= end } catch { return false }
        }
    }

    /// A file in which the blocks follow each other without gaps.
    public init(_ path: String, of memory: [GuestRAM]) throws(FilePagesError) {
        var starts: [UInt64] = []
        var end: UInt64 = 0
        for ram in memory {
            starts.append(end)
            end += ram.geometry.lengthBytes
        }
        try self.init(path, starts: starts, neededBytes: end)
    }

    /// A file in which the content of each region stands where the region says.
    public init(_ path: String, of regions: [ForeignRegion]) throws(FilePagesError) {
        let ends = regions.map { $0.contentOffset + $0.geometry.lengthBytes }
        try self.init(
            path, starts: regions.map(\.contentOffset), neededBytes: ends.max() ?? 0)
    }

    /// A whole file as one block.
    public init(whole path: String) throws(FilePagesError) {
        try self.init(path, starts: [0], neededBytes: 0)
    }

    private init(
        _ path: String, starts: [UInt64], neededBytes: UInt64
    ) throws(FilePagesError) {
        self.starts = starts
        let file = try Self.open(path)
        let length = try Self.length(of: file, path)
        guard length >= neededBytes else {
            throw .tooShort(path, lengthBytes: length, neededBytes: neededBytes)
        }
        lengthBytes = length
        content = Content(file, path: path)
    }

    private static func open(_ path: String) throws(FilePagesError) -> DiskFile {
        do throws(Errno) { return try DiskFile(reading: path) } catch {
            throw .opening(path, error)
        }
    }

    private static func length(
        of file: borrowing DiskFile, _ path: String
    ) throws(FilePagesError) -> UInt64 {
        let length: UInt64?
        do throws(Errno) { length = try file.lengthBytes() } catch {
            throw .opening(path, error)
        }
        guard let length else { throw .noFile(path) }
        return length
    }

    /// Reads from the file; a hole is zeros.
    public func read(
        _ bytes: inout MutableSpan<UInt8>, at offset: RAMOffset, of block: BlockIndex
    ) throws(PageProviderError) -> PageContent {
        let start = starts[block.rawValue] + offset.rawValue
        let end = start + UInt64(bytes.count)
        if content.file.isHole(at: start, lengthBytes: UInt64(bytes.count)), content.reaches(end) {
            return .zeros
        }
        do throws(Errno) { try content.file.read(&bytes, at: start) } catch {
            throw PageProviderError("reading '\(content.path)' at \(start): \(error)")
        }
        return .bytes
    }
}

/// Why a memory file cannot be served.
public enum FilePagesError: Error, Equatable, Sendable, CustomStringConvertible {
    /// It cannot be opened.
    case opening(String, Errno)
    /// It is no regular file.
    case noFile(String)
    /// It has less than the blocks need.
    case tooShort(String, lengthBytes: UInt64, neededBytes: UInt64)

    public var description: String {
        switch self {
        case .opening(let path, let error):
            "memory file '\(path)': \(error)"
        case .noFile(let path):
            "memory file '\(path)' is no regular file"
        case .tooShort(let path, let length, let needed):
            "memory file '\(path)' is \(length) bytes long, the memory needs \(needed): is it the file "
                + "of another machine, or cut off?"
        }
    }
}
