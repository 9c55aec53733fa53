internal import CShims
internal import Glibc
public import PageModel

/// Where another process has mapped a block's file, as the kernel lists it (`/proc/PID/maps` of proc(5)).
public struct ProcessMappings: Sendable {
    /// A run of the file, from an offset in the block on.
    public struct Run: Equatable, Sendable {
        /// Where it begins in the process.
        public let address: ClientAddress
        /// How long it is.
        public let lengthBytes: UInt64
        /// Where it begins in its file.
        public let offset: RAMOffset
    }

    private let lines: [Substring]

    /// What one line of the list takes at most, for as many mappings as a process may have
    /// (`vm.max_map_count` of a kernel that was not told otherwise).
    private static let textBytesMax = 65_530 * 256

    /// Reads the list of a process.
    /// - Throws: `EACCES` for a process that may not be looked into (ptrace(2)), `ENOENT` for none.
    public init(of process: Int32) throws(Errno) {
        let raw = unsafe open("/proc/\(process)/maps", O_RDONLY | O_CLOEXEC)
        guard raw >= 0 else { throw .last }
        let file = FileDescriptor(owning: raw)
        var text: [UInt8] = []
        while text.count < Self.textBytesMax {
            var count = 0
            text += unsafe [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, length in
                count = unsafe read(file.raw, buffer.baseAddress, buffer.count)
                length = max(0, count)
            }
            guard count >= 0 else { throw .last }
            if count == 0 { break }
        }
        lines = String(decoding: text, as: UTF8.self).split(separator: "\n")
    }

    /// Its mappings of a block's file, as far as they lie in the block.
    /// - Throws: `EBADF` for private memory, which has none.
    public func runs(of ram: GuestRAM) throws(Errno) -> [Run] {
        let identity = try Self.identity(of: ram)
        return lines.compactMap { line in
            // Addresses, rights, offset, device, inode, and for the reader a name.
            let words = line.split(separator: " ", maxSplits: 5)
            guard words.count >= 5, "\(words[3]) \(words[4])" == identity,
                let offset = UInt64(words[2], radix: 16), offset < ram.geometry.lengthBytes
            else { return nil }
            let ends = words[0].split(separator: "-").compactMap { UInt64($0, radix: 16) }
            guard ends.count == 2, ends[0] < ends[1] else { return nil }
            return Run(
                address: ClientAddress(rawValue: ends[0]),
                lengthBytes: min(ends[1] - ends[0], ram.geometry.lengthBytes - offset),
                offset: RAMOffset(rawValue: offset))
        }
    }

    /// Device and inode of a block's file as the list writes them.
    private static func identity(of ram: GuestRAM) throws(Errno) -> String {
        var status = stat()
        let answer: Int32
        switch ram.file {
        case .some(let file): answer = unsafe fstat(file.raw, &status)
        case .none: throw Errno(rawValue: EBADF)
        }
        guard answer == 0 else { throw .last }
        // As glibc packs them (`gnu_dev_major`, `gnu_dev_minor`).
        let device = UInt64(status.st_dev)
        let major = device >> 8 & 0xfff | device >> 32 & ~0xfff
        let minor = device & 0xff | device >> 12 & ~0xff
        return "\(hex(major)):\(hex(minor)) \(status.st_ino)"
    }

    private static func hex(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return text.count < 2 ? "0" + text : text
    }
}

extension StreamSocket {
    /// The process at the other end of a unix socket; `nil` where it cannot be seen from here, or is this
    /// one.
    public var otherProcess: Int32? {
        let process = pc_peer_process(descriptor.raw)
        return process > 0 && process != getpid() ? process : nil
    }
}
