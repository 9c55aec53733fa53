import CShims
import Glibc
import LinuxKernel
import PageModel

/// The floor: a missing page fetched over loopback TCP by straight calls, one thread at each end and
/// nothing in between. Twelve bytes (offset, length) go one way and 4,096 the other.
enum BareLoop {
    private static let pageBytes = 4096
    private static let requestBytes = 12

    /// The source's end: answers from `ram` until the peer closes.
    static func serve(port: UInt16, _ ram: GuestRAM) {
        let socket = connectLoopback(port: port)
        let memory = unsafe UnsafeRawPointer(bitPattern: UInt(ram.address.rawValue))!
        var offset: UInt64 = 0
        unsafe withUnsafeTemporaryAllocation(byteCount: requestBytes, alignment: 8) { request in
            let buffer = request.baseAddress!
            while unsafe recv(socket, buffer, requestBytes, Int32(MSG_WAITALL)) == requestBytes {
                offset = unsafe buffer.load(as: UInt64.self)
                _ = unsafe send(socket, memory + Int(offset), pageBytes, 0)
            }
        }
        close(socket)
    }

    /// The destination's end: answers the faults of `ram` over `socket` until the source is gone.
    static func answerFaults(
        _ uffd: Int32, of ram: GuestRAM, over socket: Int32, until end: EventFlag
    ) {
        var event = pc_uffd_event()
        let page = UnsafeMutableRawPointer.allocate(byteCount: pageBytes, alignment: 4096)
        let request = UnsafeMutableRawPointer.allocate(byteCount: requestBytes, alignment: 8)
        defer {
            unsafe page.deallocate()
            unsafe request.deallocate()
        }
        var waits = [pollfd(fd: uffd, events: Int16(POLLIN), revents: 0)]
        while true {
            // Ten times a second is often enough to learn that the run is over.
            guard unsafe pc_poll(&waits, 1, 100_000_000) > 0 else {
                if end.wait(timeoutNanoseconds: 0) { return }
                continue
            }
            guard unsafe pc_uffd_read(uffd, &event, 1) == 1 else { continue }
            let address = event.address & ~UInt64(pageBytes - 1)
            unsafe request.storeBytes(of: address - ram.address.rawValue, as: UInt64.self)
            _ = unsafe send(socket, request, requestBytes, 0)
            _ = unsafe recv(socket, page, pageBytes, Int32(MSG_WAITALL))
            _ = unsafe pc_uffd_copy(uffd, address, page, UInt64(pageBytes))
        }
    }

    /// A userfaultfd over `ram`, as bare as the rest.
    static func register(_ ram: GuestRAM) -> Int32 {
        let uffd = pc_uffd_open_device()
        var features: UInt64 = 0
        var ioctls: UInt64 = 0
        _ = unsafe pc_uffd_handshake(uffd, 0, &features)
        let status = unsafe pc_uffd_register(
            uffd, ram.address.rawValue, ram.geometry.lengthBytes,
            UInt64(PC_UFFD_MODE_MISSING.rawValue), &ioctls)
        precondition(uffd >= 0 && status == 0, "userfaultfd: run as root")
        return uffd
    }

    /// A listening socket on a port of the system's choice.
    static func listen() -> (socket: Int32, port: UInt16) {
        let socket = Glibc::socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port: 0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                precondition(unsafe bind(socket, $0, length) == 0 && Glibc::listen(socket, 1) == 0)
                _ = unsafe getsockname(socket, $0, &length)
            }
        }
        return (socket, UInt16(bigEndian: address.sin_port))
    }

    static func accept(_ listener: Int32) -> Int32 {
        let socket = Glibc::accept(listener, nil, nil)
        close(listener)
        sendAtOnce(socket)
        return socket
    }

    private static func connectLoopback(port: UInt16) -> Int32 {
        let socket = Glibc::socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port: port)
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        precondition(status == 0, "connecting to the bare loop's other end")
        sendAtOnce(socket)
        return socket
    }

    private static func loopback(port: UInt16) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    private static func sendAtOnce(_ socket: Int32) {
        var on: Int32 = 1
        _ = unsafe setsockopt(
            socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }
}
