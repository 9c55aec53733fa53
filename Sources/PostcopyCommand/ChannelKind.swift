internal import StreamWire

/// What a file seems to hold, by its first bytes: so that a channel given as another is told from
/// one that is wrong.
enum ChannelKind: Equatable {
    case main
    case returnPath
    case preempt
    case recovery
    case multifd
    case compressed(by: String)
    case libvirtImage
    case unknown

    private static let magic: [UInt8] = [0x51, 0x45, 0x56, 0x4d]
    private static let packers: [([UInt8], String)] = [
        ([0x1f, 0x8b], "gzip"), ([0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        ([0xfd, 0x37, 0x7a, 0x58, 0x5a], "xz"), ([0x42, 0x5a, 0x68], "bzip2"),
        ([0x89, 0x4c, 0x5a, 0x4f], "lzop"),
    ]

    init(_ bytes: [UInt8]) {
        if bytes.starts(with: Self.magic.prefix(max(1, bytes.count))) {
            self = .main
        } else if let packer = Self.packers.first(where: { bytes.starts(with: $0.0) }) {
            self = .compressed(by: packer.1)
        } else if bytes.starts(with: Array("LibvirtQemudSave".utf8)) {
            self = .libvirtImage
        } else if bytes.starts(with: [0x11, 0x22, 0x33, 0x44]) {
            self = .multifd
        } else if let channel = Self.channel(ofHello: bytes) {
            self = channel == .main ? .recovery : .preempt
        } else if bytes.starts(with: [0x08, 0, 0x0a]) || bytes.starts(with: [0x08, 0, 0x09]) {
            self = .recovery
        } else if Self.isReturnPath(bytes) {
            self = .returnPath
        } else if Self.isPreempt(bytes) {
            self = .preempt
        } else {
            self = .unknown
        }
    }

    private static func channel(ofHello bytes: [UInt8]) -> ChannelHello.Channel? {
        (try? ChannelHello.decode(bytes.span))?.channel
    }

    /// A message type that a destination may begin with, and a length that fits.
    private static func isReturnPath(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= 4, bytes[2] <= 1 else { return false }
        let length = Int(bytes[2]) << 8 | Int(bytes[3])
        if bytes[0] == 0x50 {
            return bytes[1] == 0x45 && length == 4 || bytes[1] == 0x46 && length == 0
                || bytes[1] == 0x44 && (1...400).contains(length)
        }
        guard bytes[0] == 0 else { return false }
        return switch bytes[1] {
        case 1, 2, 6: length == 4
        case 3: (14...268).contains(length)
        case 5: (2...256).contains(length)
        case 7: length == 0
        default: false
        }
    }

    /// A page record that names its block, with printable text, or the end.
    private static func isPreempt(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= 8 else { return false }
        let flags = UInt16(bytes[6] & 0x0f) << 8 | UInt16(bytes[7])
        if flags == 0x10 { return bytes.count == 8 }
        guard flags == 0x08 || flags == 0x02, bytes.count >= 9, bytes[8] > 0 else { return false }
        let name = bytes.dropFirst(9).prefix(Int(bytes[8]))
        return name.allSatisfy { (0x20...0x7e).contains($0) }
    }
}

extension ChannelKind {
    /// The channel that it is, of those that are read here.
    var role: ChannelRole? {
        switch self {
        case .main: .main
        case .returnPath: .returnPath
        case .preempt: .preempt
        case .recovery, .multifd, .compressed, .libvirtImage, .unknown: nil
        }
    }

    /// Why a file of this kind is not read as the main channel; `nil` when it may be one.
    func refusal(asMain file: String, firstBytes: [UInt8]) -> Refusal? {
        let text: String? =
            switch self {
            case .main: nil
            case .returnPath:
                "begins like a return path: pass it with --return-path, and the main channel first"
            case .preempt:
                "begins like a preempt channel: pass it with --preempt, and the main channel first"
            case .recovery:
                "begins like the main channel of a recovery: it has no head, and what it says "
                    + "cannot be read without the channel that broke; give that one, and this with "
                    + "--resumed"
            case .multifd:
                "begins like a multifd channel: its pages are read by nobody here; give the main "
                    + "channel"
            case .compressed(let packer):
                "is compressed by \(packer): unpack it and pipe it into 'postcopy inspect -'"
            case .libvirtImage:
                "is an image of libvirt: the stream stands behind its header, from the bytes QEVM on"
            case .unknown:
                "is no migration stream: it begins with \(Self.hex(firstBytes)), expected 51 45 56 "
                    + "4d (QEVM)"
            }
        return text.map { .environment("\(file) \($0)") }
    }

    private static func hex(_ bytes: [UInt8]) -> String {
        bytes.prefix(4).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }
}
