internal import Glibc
public import LinuxKernel

/// What memory holds that is served from a file: each word follows from a seed and its place. Some runs
/// of pages are zero, small ones and whole huge pages, and are holes of the file.
public struct ServedContent: Sendable {
    public let seed: UInt64

    private static let pageBytes: UInt64 = 4096
    /// Pages that are zero together.
    private static let runShift: UInt64 = 15
    private static let hugeShift: UInt64 = 21

    public init(seed: UInt64) { self.seed = seed }

    /// The word at a multiple of 8.
    public func word(at offset: UInt64) -> UInt64 {
        isZero(offset) ? 0 : mixed(offset) | 1
    }

    /// Whether the page that holds `offset` is zero.
    public func isZero(_ offset: UInt64) -> Bool {
        mixed(~(offset >> Self.runShift)) % 5 == 0
            || mixed(~(offset >> Self.hugeShift) &+ 1 << 40) % 6 == 0
    }

    /// Writes the first `lengthBytes`, a multiple of 4,096, to a file that is made.
    public func write(to path: String, lengthBytes: UInt64) throws(Errno) {
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0, ftruncate(file, off_t(lengthBytes)) == 0 else {
            throw Errno(rawValue: errno)
        }
        defer { close(file) }
        for page in stride(from: 0, to: lengthBytes, by: Int(Self.pageBytes)) where !isZero(page) {
            let words = stride(from: page, to: page + Self.pageBytes, by: 8).map(word(at:))
            let written = unsafe words.withUnsafeBytes {
                unsafe pwrite(file, $0.baseAddress, $0.count, off_t(page))
            }
            guard written == Self.pageBytes else { throw Errno(rawValue: errno) }
        }
    }

    /// SplitMix64's finaliser over seed and place.
    private func mixed(_ value: UInt64) -> UInt64 {
        var mixed = (value &+ seed) &* 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
