internal import CShims

/// Tells changed bytes from those that were meant.
public enum Checksum {
    /// The CRC-32 of gzip (ISO 3309): against accidents, not against an adversary.
    public static func crc32(of bytes: Span<UInt8>) -> UInt32 {
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe pc_crc32(bytes.baseAddress, UInt64(bytes.count))
        }
    }
}
