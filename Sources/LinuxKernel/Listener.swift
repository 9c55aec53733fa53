internal import CShims
internal import Glibc

/// A socket that waits for the source to connect.
public struct Listener: ~Copyable, Sendable {
    let descriptor: FileDescriptor
    /// Where it listens; the port is the one the system chose.
    public let address: ChannelAddress
    /// What a unix socket left in the file system.
    private let file: SocketFile?

    /// A source opens two channels; a few strangers may knock meanwhile.
    private static let backlog: Int32 = 8

    /// Listens at `address`. A unix socket file that nobody listens on any more is replaced.
    /// - Parameter isPrivate: only this user may connect to the unix socket, from the start.
    public init(at address: ChannelAddress, isPrivate: Bool = false) throws(ChannelError) {
        var last = Errno.invalidArgument
        for candidate in try SocketAddress.resolve(address, operation: .listen) {
            let raw = socket(candidate.family, streamSocketType, 0)
            guard raw >= 0 else {
                last = .last
                continue
            }
            let descriptor = FileDescriptor(owning: raw)
            if candidate.family != AF_UNIX { Self.reuseAddress(raw) }
            // The file takes its mode from the socket (`unix_bind` of the kernel).
            if isPrivate { _ = fchmod(raw, 0o600) }
            guard Self.bind(raw, to: candidate, at: address) else {
                last = .last
                continue
            }
            let file = SocketFile(at: address)
            guard Glibc::listen(raw, Self.backlog) == 0 else {
                last = .last
                continue
            }
            self.descriptor = descriptor
            self.file = file
            if case .tcp(let host, let asked) = address {
                let port = SocketAddress(boundTo: raw)?.port ?? asked
                self.address = .tcp(host: host, port: port)
            } else {
                self.address = address
            }
            return
        }
        throw ChannelError(operation: .listen, address: address, cause: .kernel(last))
    }

    deinit { file?.unlinkIfSame() }

    /// Takes the next connection; call it when a poller found one.
    public func accept() throws(ChannelError) -> StreamSocket {
        while true {
            let raw = pc_accept(descriptor.raw)
            if raw >= 0 { return StreamSocket(FileDescriptor(owning: raw)) }
            // A peer that went before it was accepted is no error of the listener.
            let error = Errno(rawValue: -raw)
            guard error.rawValue == EINTR || error.rawValue == ECONNABORTED else {
                throw ChannelError(operation: .accept, address: address, cause: .kernel(error))
            }
        }
    }

    /// A port stays bound for a minute behind closed connections; a restart must not wait for it.
    private static func reuseAddress(_ raw: Int32) {
        var on: Int32 = 1
        _ = unsafe setsockopt(
            raw, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func bind(
        _ raw: Int32, to candidate: SocketAddress, at address: ChannelAddress
    ) -> Bool {
        if unsafe candidate.withPointer({ unsafe Glibc::bind(raw, $0, $1) }) == 0 { return true }
        guard errno == EADDRINUSE, case .unix(let path) = address, isStale(candidate, path) else {
            return false
        }
        _ = unsafe unlink(path)
        return unsafe candidate.withPointer { unsafe Glibc::bind(raw, $0, $1) } == 0
    }

    /// Whether `path` is a socket file left over from a process that is gone.
    private static func isStale(_ candidate: SocketAddress, _ path: String) -> Bool {
        defer { errno = EADDRINUSE }
        // A file of another kind refuses connections too, and must not be deleted.
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
            return false
        }
        // A datagram socket asks without knocking: a live listener answers EPROTOTYPE, and neither
        // takes the probe for its source nor makes it wait behind a full backlog.
        let probe = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { return false }
        let owner = FileDescriptor(owning: probe)
        return unsafe candidate.withPointer { unsafe Glibc::connect(owner.raw, $0, $1) } != 0
            && errno == ECONNREFUSED
    }
}

/// The file of a bound unix socket. While the socket is open its inode is not used again, so that
/// device and inode tell it from a file that somebody bound in its place.
private struct SocketFile: Sendable {
    private let path: String
    private let device: dev_t
    private let inode: ino_t

    /// The file at `address`: `nil` where that is no path, or nothing lies there any more.
    init?(at address: ChannelAddress) {
        guard case .unix(let path) = address else { return nil }
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return nil }
        self.path = path
        device = status.st_dev
        inode = status.st_ino
    }

    func unlinkIfSame() {
        var status = stat()
        guard unsafe lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode
        else { return }
        _ = unsafe unlink(path)
    }
}
