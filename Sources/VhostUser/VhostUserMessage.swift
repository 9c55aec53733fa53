/// What a front-end asks of a back-end; all that a device needs that is taken through a postcopy.
///
/// Source: "Front-end message types" of QEMU's `docs/interop/vhost-user.rst`.
public enum VhostUserRequest: UInt32, CaseIterable, Sendable {
    case getFeatures = 1
    case setFeatures = 2
    case setOwner = 3
    case setMemoryTable = 5
    case setRingSize = 8
    case setRingAddresses = 9
    case setRingBase = 10
    case getRingBase = 11
    case setRingKick = 12
    case setRingCall = 13
    case getProtocolFeatures = 15
    case setProtocolFeatures = 16
    case setRingEnabled = 18
    case postcopyAdvise = 28
    case postcopyListen = 29
    case postcopyEnd = 30

    /// As the specification writes it, without `VHOST_USER_`.
    public var name: String {
        switch self {
        case .getFeatures: "GET_FEATURES"
        case .setFeatures: "SET_FEATURES"
        case .setOwner: "SET_OWNER"
        case .setMemoryTable: "SET_MEM_TABLE"
        case .setRingSize: "SET_VRING_NUM"
        case .setRingAddresses: "SET_VRING_ADDR"
        case .setRingBase: "SET_VRING_BASE"
        case .getRingBase: "GET_VRING_BASE"
        case .setRingKick: "SET_VRING_KICK"
        case .setRingCall: "SET_VRING_CALL"
        case .getProtocolFeatures: "GET_PROTOCOL_FEATURES"
        case .setProtocolFeatures: "SET_PROTOCOL_FEATURES"
        case .setRingEnabled: "SET_VRING_ENABLE"
        case .postcopyAdvise: "POSTCOPY_ADVISE"
        case .postcopyListen: "POSTCOPY_LISTEN"
        case .postcopyEnd: "POSTCOPY_END"
        }
    }
}

/// What stands before every payload.
///
/// Layout: request, flags, payload length (32 bits each, in the host's byte order).
public struct VhostUserHeader: Equatable, Sendable {
    public static let wireBytes = 12

    /// The number of the request; a back-end's own may be one that `VhostUserRequest` lacks.
    public var request: UInt32
    public var flags: UInt32
    public var payloadBytes: UInt32

    /// The lowest two bits: the only version there is.
    static let version: UInt32 = 1
    private static let versionMask: UInt32 = 3
    static let reply: UInt32 = 1 << 2
    /// Asks for a reply to a request that has none by itself (`REPLY_ACK`).
    static let needsReply: UInt32 = 1 << 3

    public init(_ request: VhostUserRequest, payloadBytes: Int, needsReply: Bool = false) {
        self.request = request.rawValue
        flags = Self.version | (needsReply ? Self.needsReply : 0)
        self.payloadBytes = UInt32(payloadBytes)
    }

    /// A reply's.
    public init(replyTo request: VhostUserRequest, payloadBytes: Int) {
        self.init(request, payloadBytes: payloadBytes)
        flags |= Self.reply
    }

    /// Decodes a header.
    /// - Precondition: `bytes` are `wireBytes`.
    public init(_ bytes: Span<UInt8>) {
        precondition(bytes.count == Self.wireBytes)
        request = bytes.number(at: 0)
        flags = bytes.number(at: 4)
        payloadBytes = bytes.number(at: 8)
    }

    public func append(to bytes: inout [UInt8]) {
        bytes.append(number: request)
        bytes.append(number: flags)
        bytes.append(number: payloadBytes)
    }

    public var isReply: Bool { flags & Self.reply != 0 }
    public var asksForReply: Bool { flags & Self.needsReply != 0 }
    public var hasKnownVersion: Bool { flags & Self.versionMask == Self.version }
}

/// Optional parts of the protocol, by their bits.
public struct VhostUserProtocolFeatures: OptionSet, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Requests that have no reply get one when asked: whether it was done.
    public static let replyAcknowledgement = Self(rawValue: 1 << 3)
    /// Postcopy: the back-end has a userfaultfd.
    public static let pageFault = Self(rawValue: 1 << 8)
}

/// Features of a device, by their bits; those below bit 24 are the device type's own.
public struct VhostUserFeatures: OptionSet, Sendable {
    public let rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// `VHOST_USER_F_PROTOCOL_FEATURES`: it can be asked for those.
    public static let protocolFeatures = Self(rawValue: 1 << 30)
    /// `VIRTIO_F_VERSION_1`.
    public static let version1 = Self(rawValue: 1 << 32)
}

// Numbers in the host's byte order, as the protocol has them: little-endian on every host that is served.
extension Span where Element == UInt8 {
    /// - Precondition: the number lies inside.
    func number<Number: FixedWidthInteger & UnsignedInteger>(at offset: Int) -> Number {
        var value: Number = 0
        for index in 0..<MemoryLayout<Number>.size {
            value |= Number(self[offset + index]) << Number(8 * index)
        }
        return value
    }
}

extension [UInt8] {
    mutating func append(number: some FixedWidthInteger & UnsignedInteger) {
        for index in 0..<number.bitWidth / 8 {
            append(UInt8(truncatingIfNeeded: number >> (8 * index)))
        }
    }
}
