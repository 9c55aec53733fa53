internal import LinuxKernel
internal import PageModel

/// A trace in a file.
///
/// Layout, all numbers little-endian: "PCTRACE1"; the number of blocks (4 bytes); of each block the length
/// of its name (1), the name, the block's bytes (8) and its host page's binary logarithm (1); the number
/// of pages (8); of each page its block (2) and its place there (6); the CRC-32 of all that (4).
extension FaultTrace {
    private static let mark = Array("PCTRACE1".utf8)
    /// A handler serves at most 1,024 regions; the number is 2 bytes wide in an entry.
    private static let blocksMax = 1_024
    /// 2^22 pages are 16 GiB of small ones, touched within one run; 32 MiB of file.
    private static let pagesMax = 1 << 22
    private static let fileBytesMax =
        UInt64(mark.count + 4 + blocksMax * 265 + 8 + pagesMax * 8 + 4)

    /// Writes the trace to a file, in one step; a file that is there is replaced. Of more than 2^22 pages
    /// the first ones are kept.
    public func write(to path: String) throws(FaultTraceError) {
        var bytes = Self.mark
        bytes.append(UInt64(blocks.count), count: 4)
        for block in blocks {
            bytes.append(UInt8(block.name.utf8.count))
            bytes += block.name.utf8
            bytes.append(block.lengthBytes, count: 8)
            bytes.append(UInt8(block.hostPage.shift))
        }
        let kept = pages.prefix(Self.pagesMax)
        bytes.append(UInt64(kept.count), count: 8)
        for page in kept {
            bytes.append(UInt64(page.block.rawValue), count: 2)
            bytes.append(UInt64(page.page.rawValue), count: 6)
        }
        bytes.append(UInt64(Checksum.crc32(of: bytes.span)), count: 4)
        do throws(Errno) { try DiskFile.replace(path, with: bytes.span) } catch {
            throw .file(path: path, "\(error)")
        }
    }

    /// Reads a trace that was written by `write`.
    /// - Throws: `.file`, which says what is wrong with it.
    public init(contentsOf path: String) throws(FaultTraceError) {
        let bytes = try Self.bytes(of: path)
        var reader = TraceReader(bytes: bytes, path: path)
        guard reader.takeBytes(Self.mark.count) == Self.mark else {
            throw .file(path: path, "it is no trace of faults")
        }
        let checked = bytes.count - 4
        var end = TraceReader(bytes: bytes, path: path, at: max(0, checked))
        let sum = try end.take(4)
        guard sum == UInt64(Checksum.crc32(of: bytes.span.extracting(..<checked))) else {
            throw .file(path: path, "it was changed or cut off: its checksum does not fit")
        }
        let blockCount = try reader.take(4)
        guard blockCount <= UInt64(Self.blocksMax) else {
            throw .file(path: path, "it names \(blockCount) blocks")
        }
        var blocks: [BlockGeometry] = []
        for _ in 0..<blockCount { blocks.append(try reader.takeBlock()) }
        let pageCount = try reader.take(8)
        guard pageCount == UInt64(checked - reader.position) / 8,
            (checked - reader.position) % 8 == 0
        else { throw .file(path: path, "it says \(pageCount) pages and holds another number") }
        var pages: [HostPage] = []
        pages.reserveCapacity(Int(pageCount))
        for _ in 0..<pageCount {
            let block = BlockIndex(rawValue: Int(try reader.take(2)))
            pages.append(
                HostPage(block: block, page: HostPageIndex(rawValue: Int(try reader.take(6)))))
        }
        do throws(FaultTraceError) { try self.init(of: blocks, pages: pages) } catch {
            throw .file(path: path, error.description)
        }
    }

    private static func bytes(of path: String) throws(FaultTraceError) -> [UInt8] {
        var length: UInt64?
        do throws(Errno) {
            let file = try DiskFile(reading: path)
            length = try file.lengthBytes()
            if let length, length <= fileBytesMax {
                return try file.read(lengthBytes: Int(length))
            }
        } catch { throw .file(path: path, "\(error)") }
        throw .file(
            path: path,
            length.map { "\($0) bytes are more than a trace has" } ?? "it is no regular file")
    }
}

extension [UInt8] {
    fileprivate mutating func append(_ number: UInt64, count: Int) {
        for byte in 0..<count { append(UInt8(truncatingIfNeeded: number >> UInt64(byte * 8))) }
    }
}

/// Takes numbers from a file's bytes, and never more than there are.
private struct TraceReader {
    let bytes: [UInt8]
    let path: String
    private(set) var position = 0

    init(bytes: [UInt8], path: String, at position: Int = 0) {
        self.bytes = bytes
        self.path = path
        self.position = position
    }

    mutating func takeBytes(_ count: Int) -> [UInt8]? {
        guard count <= bytes.count - position else { return nil }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    mutating func take(_ count: Int) throws(FaultTraceError) -> UInt64 {
        guard count <= bytes.count - position else {
            throw .file(path: path, "it ends at byte \(bytes.count), in the middle")
        }
        var number: UInt64 = 0
        for byte in 0..<count { number |= UInt64(bytes[position + byte]) << UInt64(byte * 8) }
        position += count
        return number
    }

    mutating func takeBlock() throws(FaultTraceError) -> BlockGeometry {
        let start = position
        let length = Int(try take(1))
        guard let name = takeBytes(length) else {
            throw .file(path: path, "it ends at byte \(bytes.count), in the middle")
        }
        let lengthBytes = try take(8)
        let shift = try take(1)
        guard shift < 64, let page = PageSize(bytes: 1 << shift),
            let block = try? BlockGeometry(
                name: String(decoding: name, as: UTF8.self), lengthBytes: lengthBytes,
                hostPage: page)
        else { throw .file(path: path, "the block at byte \(start) is none") }
        return block
    }
}
