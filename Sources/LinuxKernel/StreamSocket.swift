internal import CShims
internal import Glibc

/// A connected stream socket. Each direction has one owner among the threads; any thread may end both
/// with `shutDown`, which wakes whoever waits in them.
public struct StreamSocket: ~Copyable, Sendable {
    let descriptor: FileDescriptor

    init(_ descriptor: consuming FileDescriptor) {
        self.descriptor = descriptor
        setOption(SOL_SOCKET, SO_KEEPALIVE, 1)
    }

    /// How long to wait for a connection: longer than two lost SYNs, short enough for a person.
    public static let connectTimeoutNanoseconds: UInt64 = 5_000_000_000

    /// Connects to the first address of `address` that answers.
    /// - Parameter timeoutNanoseconds: for each address that a name stands for.
    public static func connect(
        to address: ChannelAddress, timeoutNanoseconds: UInt64 = connectTimeoutNanoseconds
    ) throws(ChannelError) -> StreamSocket {
        var last = Errno.connectionRefused
        for candidate in try SocketAddress.resolve(address, operation: .connect) {
            let raw = socket(candidate.family, streamSocketType, 0)
            guard raw >= 0 else {
                last = .last
                continue
            }
            let descriptor = FileDescriptor(owning: raw)
            // A send time-out bounds the connect as well (socket(7)).
            setTimeout(raw, SO_SNDTIMEO, nanoseconds: timeoutNanoseconds)
            guard Self.connect(raw, to: candidate) else {
                last = Errno.last.rawValue == EINPROGRESS ? .timedOut : .last
                continue
            }
            setTimeout(raw, SO_SNDTIMEO, nanoseconds: 0)
            return StreamSocket(descriptor)
        }
        throw ChannelError(operation: .connect, address: address, cause: .kernel(last))
    }

    /// Where the peer is, in digits; `nil` for a unix socket, and for a peer that has gone.
    public var peerAddress: ChannelAddress? { SocketAddress(peerOf: descriptor.raw)?.digits }

    /// A signal that was handled ends the call and not the attempt: asking again waits for that one.
    private static func connect(_ raw: Int32, to candidate: SocketAddress) -> Bool {
        while unsafe candidate.withPointer({ unsafe Glibc::connect(raw, $0, $1) }) != 0 {
            guard errno == EINTR else { return false }
        }
        return true
    }

    /// Sends small messages at once instead of gathering them. Nothing to do on a unix socket.
    public func sendAtOnce() { setOption(Int32(IPPROTO_TCP), TCP_NODELAY, 1) }

    /// Bounds what the kernel holds of this side's output and input, so that nothing urgent on the
    /// same link queues behind it.
    /// - Parameter unsentBytes: what may lie in the socket and not yet on the wire (TCP only).
    public func boundBuffers(bytes: Int32, unsentBytes: Int32) {
        setOption(SOL_SOCKET, SO_SNDBUF, bytes)
        setOption(SOL_SOCKET, SO_RCVBUF, bytes)
        setOption(Int32(IPPROTO_TCP), TCP_NOTSENT_LOWAT, unsentBytes)
    }

    /// Ends waits for a peer that takes nothing, or whose host is gone, after `nanoseconds`: a
    /// receive or send then throws `EAGAIN` or `ETIMEDOUT`. No limit is too short to be one.
    public func limitWaits(nanoseconds: UInt64) {
        limitReceives(nanoseconds: nanoseconds)
        Self.setTimeout(descriptor.raw, SO_SNDTIMEO, nanoseconds: max(1, nanoseconds))
        limitUnacknowledged(nanoseconds: nanoseconds)
    }

    /// Ends a wait for a peer that sends nothing after `nanoseconds`: a receive then throws `EAGAIN`.
    public func limitReceives(nanoseconds: UInt64) {
        Self.setTimeout(descriptor.raw, SO_RCVTIMEO, nanoseconds: max(1, nanoseconds))
    }

    /// Ends the connection once bytes were sent that the peer's host has not taken for so long
    /// (TCP only).
    public func limitUnacknowledged(nanoseconds: UInt64) {
        let milliseconds = max(1, nanoseconds / 1_000_000)
        setOption(Int32(IPPROTO_TCP), TCP_USER_TIMEOUT, Int32(clamping: milliseconds))
    }

    /// The process at the other end of a unix socket, as it was when it connected; `nil` where it has no
    /// id in this process's namespace.
    public var peerProcess: Int32? {
        let process = pc_socket_peer(descriptor.raw)
        return process > 0 ? process : nil
    }

    /// Bytes that are here and that nobody has received.
    public var unreadBytes: Int {
        var count: Int32 = 0
        guard unsafe ioctl(descriptor.raw, UInt(FIONREAD), &count) == 0 else { return 0 }
        return Int(count)
    }

    /// Has the peer told of the end, when this socket is closed, as of a connection that broke: what was
    /// not delivered is dropped.
    public func resetWhenClosed() {
        var option = linger(l_onoff: 1, l_linger: 0)
        _ = unsafe setsockopt(
            descriptor.raw, SOL_SOCKET, SO_LINGER, &option,
            socklen_t(MemoryLayout<linger>.size))
    }

    /// Ends both directions; the descriptor stays valid until its owner goes.
    public func shutDown() { _ = Glibc::shutdown(descriptor.raw, Int32(SHUT_RDWR)) }

    /// Ends this side's direction alone: the peer's last words can still be received.
    public func shutDownSending() { _ = Glibc::shutdown(descriptor.raw, Int32(SHUT_WR)) }

    /// Whether the peer has closed its direction or the connection, as far as this host has heard.
    public var isEndedByPeer: Bool {
        var entry = pollfd(fd: descriptor.raw, events: Self.peerEnded, revents: 0)
        return unsafe poll(&entry, 1, 0) > 0
    }

    /// `POLLRDHUP`, which needs `_GNU_SOURCE` to be imported.
    private static let peerEnded: Int16 = 0x2000

    /// Sends all of `bytes`.
    public func send(_ bytes: Span<UInt8>) throws(Errno) {
        var sent = 0
        while sent < bytes.count { sent += try send(bytes, from: sent, flags: 0) }
    }

    /// Sends what the socket has room for of `bytes` from `start` on.
    /// - Returns: the bytes sent, 0 when there is no room.
    public func sendWithoutWaiting(_ bytes: Span<UInt8>, from start: Int) throws(Errno) -> Int {
        do { return try send(bytes, from: start, flags: Int32(MSG_DONTWAIT)) } catch {
            guard error == .again else { throw error }
            return 0
        }
    }

    private func send(_ bytes: Span<UInt8>, from start: Int, flags: Int32) throws(Errno) -> Int {
        precondition(start >= 0 && start <= bytes.count)
        while true {
            let answer = unsafe bytes.withUnsafeBytes { buffer in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[start...])
                return unsafe Glibc::send(
                    descriptor.raw, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL) | flags)
            }
            if answer >= 0 { return answer }
            if Errno.last.rawValue != EINTR { throw .last }
        }
    }

    /// Receives what is there, at least one byte unless `wait` is false.
    /// - Returns: the bytes received; 0 at the peer's end; `nil` when nothing is there to not wait for.
    @unsafe func receive(
        into buffer: UnsafeMutableRawBufferPointer, wait: Bool
    ) throws(Errno) -> Int? {
        while true {
            let flags = wait ? 0 : Int32(MSG_DONTWAIT)
            let answer = unsafe recv(descriptor.raw, buffer.baseAddress, buffer.count, flags)
            if answer >= 0 { return answer }
            let error = Errno.last
            if error == .again, !wait { return nil }
            if error.rawValue != EINTR { throw error }
        }
    }

    private func setOption(_ level: Int32, _ name: Int32, _ value: Int32) {
        var value = value
        // A refused option (TCP's on a unix socket) changes speed, not correctness.
        _ = unsafe setsockopt(
            descriptor.raw, level, name, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    /// - Parameter nanoseconds: 0 for no limit. Others are rounded up to what the kernel counts in:
    ///   down, the shortest would be none.
    private static func setTimeout(_ raw: Int32, _ name: Int32, nanoseconds: UInt64) {
        let microseconds = nanoseconds / 1_000 + (nanoseconds % 1_000 == 0 ? 0 : 1)
        var limit = timeval(
            tv_sec: Int(microseconds / 1_000_000), tv_usec: Int(microseconds % 1_000_000))
        _ = unsafe setsockopt(
            raw, SOL_SOCKET, name, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
}

let streamSocketType = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
