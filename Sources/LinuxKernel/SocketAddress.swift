internal import Glibc

/// A resolved address in the form that the kernel takes.
struct SocketAddress {
    let family: Int32
    private var storage: sockaddr_storage
    private var length: socklen_t

    /// Every address that `address` stands for, best first.
    static func resolve(
        _ address: ChannelAddress, operation: ChannelError.Operation
    ) throws(ChannelError) -> [SocketAddress] {
        switch address {
        case .unix(let path):
            // An address made without the parser may hold anything; an empty path is another kind.
            guard (1...ChannelAddress.unixPathBytesMax).contains(path.utf8.count) else {
                throw ChannelError(
                    operation: operation, address: address,
                    cause: .kernel(path.isEmpty ? .invalidArgument : .nameTooLong))
            }
            return [SocketAddress(unixPath: path)]
        case .tcp(let host, let port):
            var hints = unsafe addrinfo()
            unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            unsafe hints.ai_flags = operation == .listen ? AI_PASSIVE : 0
            var list: UnsafeMutablePointer<addrinfo>? = nil
            let status = unsafe getaddrinfo(host, String(port), &hints, &list)
            guard status == 0 else {
                let reason = unsafe String(cString: gai_strerror(status))
                throw ChannelError(
                    operation: operation, address: address,
                    cause: .unknownHost("host '\(host)': \(reason)"))
            }
            defer { unsafe freeaddrinfo(list) }
            var found: [SocketAddress] = []
            var entry = unsafe list
            while let current = unsafe entry {
                unsafe found.append(SocketAddress(current.pointee))
                unsafe entry = current.pointee.ai_next
            }
            return found
        }
    }

    /// The address that `descriptor` is bound to.
    init?(boundTo descriptor: Int32) {
        unsafe self.init { unsafe getsockname(descriptor, $0, $1) }
    }

    /// The address that `descriptor` is connected to.
    init?(peerOf descriptor: Int32) {
        unsafe self.init { unsafe getpeername(descriptor, $0, $1) }
    }

    @unsafe private init?(
        _ ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe ask($0, &length)
            }
        }
        guard status == 0 else { return nil }
        self.storage = storage
        self.length = length
        family = Int32(storage.ss_family)
    }

    private init(unixPath path: String) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
            unsafe bytes.copyBytes(from: path.utf8)
        }
        var storage = sockaddr_storage()
        unsafe withUnsafeMutableBytes(of: &storage) { target in
            unsafe withUnsafeBytes(of: &address) { unsafe target.copyMemory(from: $0) }
        }
        self.storage = storage
        length = socklen_t(MemoryLayout<sockaddr_un>.size)
        family = AF_UNIX
    }

    private init(_ info: addrinfo) {
        var storage = sockaddr_storage()
        let count = unsafe min(Int(info.ai_addrlen), MemoryLayout<sockaddr_storage>.size)
        unsafe withUnsafeMutableBytes(of: &storage) { target in
            unsafe target.copyMemory(
                from: UnsafeRawBufferPointer(start: info.ai_addr, count: count))
        }
        self.storage = storage
        length = socklen_t(count)
        family = unsafe info.ai_family
    }

    /// The TCP port, in host order; `nil` for other families.
    var port: UInt16? {
        unsafe withUnsafeBytes(of: storage) { bytes in
            guard family == AF_INET || family == AF_INET6 else { return nil }
            // sin_port and sin6_port lie at the same place.
            return UInt16(bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
    }

    /// The same in digits, as nobody need resolve it; `nil` for other families than TCP's.
    var digits: ChannelAddress? {
        guard let port else { return nil }
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let status = unsafe withPointer { address, length in
            unsafe getnameinfo(
                address, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
        }
        guard status == 0 else { return nil }
        let text = host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
        return .tcp(host: String(decoding: text, as: UTF8.self), port: port)
    }

    /// Lends the address to a system call and answers its result.
    func withPointer(_ call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        var storage = storage
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe call($0, length)
            }
        }
    }
}
