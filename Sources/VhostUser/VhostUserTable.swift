public import LinuxKernel
public import PageModel

/// A run of guest memory that a back-end may use.
public struct VhostUserMemory: Sendable {
    /// Where the guest sees it.
    public let guestPhysicalAddress: UInt64
    public let memory: GuestRAM
    public let offset: RAMOffset
    public let lengthBytes: UInt64

    public init(
        guestPhysicalAddress: UInt64, memory: GuestRAM, offset: RAMOffset, lengthBytes: UInt64
    ) {
        self.guestPhysicalAddress = guestPhysicalAddress
        self.memory = memory
        self.offset = offset
        self.lengthBytes = lengthBytes
    }

    /// A block whole, where its `guestPhysicalAddress` says.
    public init(_ memory: GuestRAM) {
        self.init(
            guestPhysicalAddress: memory.guestPhysicalAddress, memory: memory,
            offset: RAMOffset(rawValue: 0), lengthBytes: memory.usedBytes)
    }

    /// In this process: what ring addresses are counted from.
    var userAddress: UInt64 { memory.address.rawValue + offset.rawValue }
}

/// One entry of a table of memory.
///
/// Layout: guest physical address, length, user address, offset in the file (64 bits each, in the host's
/// byte order).
public struct VhostUserTableEntry: Equatable, Sendable {
    public static let wireBytes = 32

    public var guestPhysicalAddress: UInt64
    public var lengthBytes: UInt64
    /// The sender's own: a back-end that replies puts in where it has mapped the first byte.
    public var userAddress: UInt64
    public var fileOffset: UInt64

    public init(
        guestPhysicalAddress: UInt64, lengthBytes: UInt64, userAddress: UInt64, fileOffset: UInt64
    ) {
        self.guestPhysicalAddress = guestPhysicalAddress
        self.lengthBytes = lengthBytes
        self.userAddress = userAddress
        self.fileOffset = fileOffset
    }

    fileprivate init(_ bytes: Span<UInt8>, at offset: Int) {
        guestPhysicalAddress = bytes.number(at: offset)
        lengthBytes = bytes.number(at: offset + 8)
        userAddress = bytes.number(at: offset + 16)
        fileOffset = bytes.number(at: offset + 24)
    }

    fileprivate func append(to bytes: inout [UInt8]) {
        for number in [guestPhysicalAddress, lengthBytes, userAddress, fileOffset] {
            bytes.append(number: number)
        }
    }
}

/// The payload of SET_MEM_TABLE and of its reply.
///
/// Layout: number of entries, padding (32 bits each), the entries.
public enum VhostUserTable {
    /// What one message carries (`VHOST_MEMORY_BASELINE_NREGIONS`).
    public static let entriesMax = 8
    public static let wireBytesMax = 8 + entriesMax * VhostUserTableEntry.wireBytes

    public static func encode(_ entries: [VhostUserTableEntry]) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(number: UInt32(entries.count))
        bytes.append(number: UInt32(0))
        for entry in entries { entry.append(to: &bytes) }
        return bytes
    }

    /// The entries, or `nil` for bytes that are no table. What follows the last is passed over: QEMU
    /// up to 7.2 replies with as many bytes as it was sent.
    public static func decode(_ bytes: Span<UInt8>) -> [VhostUserTableEntry]? {
        guard bytes.count >= 8 else { return nil }
        let count: UInt32 = bytes.number(at: 0)
        guard count <= entriesMax,
            bytes.count >= 8 + Int(count) * VhostUserTableEntry.wireBytes
        else { return nil }
        return (0..<Int(count)).map {
            VhostUserTableEntry(bytes, at: 8 + $0 * VhostUserTableEntry.wireBytes)
        }
    }
}
