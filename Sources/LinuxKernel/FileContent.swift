internal import CShims
internal import Glibc
internal import PageModel

/// Where a file holds data. What lies between is holes, which read as zeros.
enum FileData {
    /// The run of data that goes on at `offset`, or begins behind it; `nil` when only a hole follows up
    /// to `lengthBytes`. All of a file is data where its file system does not tell.
    static func run(
        of file: Int32, from offset: UInt64, lengthBytes: UInt64
    ) throws(Errno) -> Range<UInt64>? {
        guard offset < lengthBytes else { return nil }
        do throws(Errno) {
            let start = UInt64(try Errno.check(pc_file_seek(file, offset, 0)))
            guard start < lengthBytes else { return nil }
            let end = UInt64(try Errno.check(pc_file_seek(file, start, 1)))
            return start..<min(max(end, start + 1), lengthBytes)
        } catch {
            switch error {
            case .noSuchAddress: return nil
            case .invalidArgument: return offset..<lengthBytes
            default: throw error
            }
        }
    }
}

/// Runs of data, joined where they are many or near.
struct JoinedRuns {
    private(set) var runs: [Range<UInt64>] = []
    /// Holes that are shorter are read like data: some pages of zeros cost less than a mapping.
    private var holeBytesMin: UInt64 = 64 << 10
    /// A process may have 65,530 mappings (`vm.max_map_count`), and a guest has several blocks.
    static let runsMax = 1_024

    /// Adds a run that lies behind all others.
    mutating func append(_ run: Range<UInt64>) {
        join(run, to: &runs)
        while runs.count > Self.runsMax {
            holeBytesMin *= 2
            var joined: [Range<UInt64>] = []
            for run in runs { join(run, to: &joined) }
            runs = joined
        }
    }

    private func join(_ run: Range<UInt64>, to runs: inout [Range<UInt64>]) {
        guard let last = runs.last, run.lowerBound < last.upperBound + holeBytesMin else {
            return runs.append(run)
        }
        runs[runs.count - 1] = last.lowerBound..<max(last.upperBound, run.upperBound)
    }
}

/// A file that a block's content is read from, and that is never written.
enum FileContent {
    /// Maps the file's data into zero memory, so that a hole takes nothing where it is read: through a
    /// mapping of the file it would fill the page cache, and on tmpfs be allocated.
    /// - Returns: the address, or `-errno`, as the shims do.
    static func map(
        _ path: String, as geometry: BlockGeometry, alignment: UInt64
    ) throws(RAMError) -> Int64 {
        let file = try open(path, for: geometry)
        let address = pc_map(-1, geometry.lengthBytes, alignment)
        guard address >= 0 else { return address }
        do throws(Errno) {
            for run in try runs(of: file, lengthBytes: geometry.lengthBytes) {
                try Errno.check(
                    pc_file_map_content(
                        file.raw, run.lowerBound, run.upperBound - run.lowerBound,
                        UInt64(address) + run.lowerBound))
            }
        } catch {
            _ = pc_unmap(UInt64(address), geometry.lengthBytes)
            throw .readingFile(block: geometry.name, path: path, error)
        }
        return address
    }

    private static func open(
        _ path: String, for geometry: BlockGeometry
    ) throws(RAMError) -> FileDescriptor {
        let name = geometry.name
        // Who opens a pipe would wait for its writer.
        let raw = unsafe Glibc::open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard raw >= 0 else { throw .readingFile(block: name, path: path, .last) }
        let file = FileDescriptor(owning: raw)
        let found: pc_file
        do { found = try SharedFile.describe(file) } catch {
            throw .readingFile(block: name, path: path, error)
        }
        guard found.is_regular != 0 else { throw .noRegularFile(block: name, path: path) }
        guard found.length >= geometry.lengthBytes else {
            throw .contentTooShort(
                block: name, path: path, lengthBytes: found.length,
                neededBytes: geometry.lengthBytes)
        }
        return file
    }

    /// The data in whole pages.
    private static func runs(
        of file: borrowing FileDescriptor, lengthBytes: UInt64
    ) throws(Errno) -> [Range<UInt64>] {
        let page = HostMemory.pageSize.bytes
        var joined = JoinedRuns()
        var next: UInt64 = 0
        while let run = try FileData.run(of: file.raw, from: next, lengthBytes: lengthBytes) {
            next = (run.upperBound + page - 1) & ~(page - 1)
            joined.append(run.lowerBound & ~(page - 1)..<next)
        }
        return joined.runs
    }
}
