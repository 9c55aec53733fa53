import CShims
import Glibc
import LinuxKernel

/// A connection to whoever serves faults; open until the process ends, as Firecracker's is.
struct HandOffSocket {
    private let raw: Int32

    init(_ path: String) throws {
        raw = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            unsafe bytes.copyBytes(from: path.utf8)
        }
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(raw, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard raw >= 0, status == 0 else { throw Errno(rawValue: errno) }
    }

    /// Sends a message at once, with descriptors.
    func send(_ message: [UInt8], _ descriptors: [Int32]) throws {
        let sent = unsafe message.withUnsafeBytes { bytes in
            unsafe descriptors.withUnsafeBufferPointer { descriptors in
                unsafe pc_send_descriptors(
                    raw, bytes.baseAddress, UInt64(bytes.count), descriptors.baseAddress,
                    UInt64(descriptors.count))
            }
        }
        guard sent == message.count else { throw Errno(rawValue: Int32(-sent)) }
    }
}
