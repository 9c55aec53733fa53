import CShims
import FaultHandling
import Glibc
import LinuxKernel
import PageModel

/// The floor of serving another process: one thread that polls, reads a fault, reads the page from a
/// file and places it, and nothing in between.
enum BareHandler {
    private static let pageBytes = 4096

    /// Takes one client's hand-off and answers its faults until this process is ended.
    static func serve(at path: String, from file: String) throws {
        let (uffd, region) = try receive(at: path)
        let content = unsafe open(file, O_RDONLY | O_CLOEXEC)
        precondition(content >= 0, "the memory file")
        let (start, offset) = (region.address.rawValue, region.contentOffset)
        let page = UnsafeMutableRawPointer.allocate(byteCount: pageBytes, alignment: pageBytes)
        var event = pc_uffd_event()
        var waits = [pollfd(fd: uffd, events: Int16(POLLIN), revents: 0)]
        while true {
            guard unsafe pc_poll(&waits, 1, .max) > 0, unsafe pc_uffd_read(uffd, &event, 1) == 1
            else { continue }
            let address = event.address & ~UInt64(pageBytes - 1)
            let place = off_t(offset + address - start)
            precondition(unsafe pread(content, page, pageBytes, place) == pageBytes)
            _ = unsafe pc_uffd_copy(uffd, address, page, UInt64(pageBytes))
        }
    }

    private static func receive(at path: String) throws -> (uffd: Int32, ForeignRegion) {
        let connection = accept(at: path)
        var message = [UInt8](repeating: 0, count: FirecrackerHandOff.bytesMax)
        var descriptors = [Int32](repeating: -1, count: Int(PC_DESCRIPTORS_MAX))
        var count: UInt64 = 0
        let received = unsafe pc_receive_descriptors(
            connection, &message, UInt64(message.count), 1, &descriptors, &count)
        precondition(received > 0 && count == 1, "a hand-off with its userfaultfd")
        let handOff = try FirecrackerHandOff(parsing: Array(message.prefix(Int(received))))
        return (descriptors[0], handOff.regions[0])
    }

    private static func accept(at path: String) -> Int32 {
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            unsafe bytes.copyBytes(from: path.utf8)
        }
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        precondition(status == 0 && listen(listener, 1) == 0, "a socket to listen at")
        HandlerProcess.sayReady()
        return pc_accept(listener)
    }
}
