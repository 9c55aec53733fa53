import Glibc
import LinuxKernel
import Testing

@Suite("Listener and StreamSocket")
struct ListenerTests {
    private func refusal(_ body: () throws(ChannelError) -> Void) -> ChannelError? {
        do throws(ChannelError) { try body() } catch { return error }
        return nil
    }

    private func listen(_ address: ChannelAddress) -> ChannelError? {
        refusal { () throws(ChannelError) in _ = try Listener(at: address).address }
    }

    private func connect(_ address: ChannelAddress) -> ChannelError? {
        refusal { () throws(ChannelError) in try StreamSocket.connect(to: address).shutDown() }
    }

    /// What lies at `path`: nothing, a socket or something else.
    private func kind(_ path: String) -> mode_t? {
        var status = stat()
        return unsafe lstat(path, &status) == 0 ? status.st_mode & S_IFMT : nil
    }

    /// One byte each way.
    private func exchange(with listener: borrowing Listener) throws {
        let near = SharedSocket(try StreamSocket.connect(to: listener.address))
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        try #require(poller.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds) == 1)
        let far = SharedSocket(try listener.accept())
        for (from, to) in [(near, far), (far, near)] {
            let bytes: [UInt8] = [1, 2, 3]
            try from.socket.send(bytes.span)
            var buffer = ReceiveBuffer(capacityBytes: 8)
            #expect(try buffer.fill(from: to.socket, wait: true) == 3)
            #expect(try buffer.fill(from: to.socket, wait: false) == nil)
        }
    }

    @Test("port 0 becomes the port that the system chose", arguments: ["127.0.0.1", "localhost"])
    func tcp(host: String) throws {
        let listener = try Listener(at: .tcp(host: host, port: 0))
        guard case .tcp(host, let port) = listener.address else {
            Issue.record("\(listener.address)")
            return
        }
        #expect(port != 0)
        try exchange(with: listener)
        let second = try #require(listen(listener.address))
        #expect(second.cause == .kernel(.addressInUse))
        #expect(second.description.contains("port 0"))
    }

    @Test("IPv6", .enabled(if: HostUnderTest.hasIPv6Loopback, "the host has no ::1"))
    func ipv6() throws {
        let listener = try Listener(at: ChannelAddress(parsing: "tcp:[::1]:0"))
        #expect(listener.address.description.hasPrefix("tcp:[::1]:"))
        #expect(listener.address != .tcp(host: "::1", port: 0))
        try exchange(with: listener)
    }

    @Test("a unix socket's file lives as long as its listener")
    func unix() throws {
        let path = HostUnderTest.temporaryPath("listener")
        do {
            let listener = try Listener(at: .unix(path: path))
            #expect(listener.address == .unix(path: path))
            #expect(kind(path) == S_IFSOCK)
            try exchange(with: listener)
        }
        #expect(kind(path) == nil)
    }

    @Test("a unix socket's file that another has bound anew meanwhile stays")
    func boundAnew() throws {
        let path = HostUnderTest.temporaryPath("anew")
        func outlived() throws -> Listener {
            let first = try Listener(at: .unix(path: path))
            try #require(unsafe unlink(path) == 0)
            let second = try Listener(at: first.address)
            return second
        }
        do {
            let second = try outlived()
            #expect(kind(path) == S_IFSOCK)
            try exchange(with: second)
        }
        #expect(kind(path) == nil)
    }

    @Test("a live unix socket is refused, and its listener hears nothing of it")
    func live() throws {
        let path = HostUnderTest.temporaryPath("live")
        let listener = try Listener(at: .unix(path: path))
        let second = try #require(listen(.unix(path: path)))
        #expect(second.cause == .kernel(.addressInUse))
        #expect(kind(path) == S_IFSOCK)
        var poller = Poller(capacity: 1)
        poller.watch(listener)
        #expect(poller.wait(timeoutNanoseconds: 0) == 0, "the probe knocked")
        try exchange(with: listener)
    }

    @Test("a unix socket with a full backlog is refused without waiting for it")
    func fullBacklog() throws {
        let path = HostUnderTest.temporaryPath("backlog")
        let listener = try Listener(at: .unix(path: path))
        var waiting: [SharedSocket] = []
        // One more than the backlog is taken; the next would wait.
        for _ in 0..<9 { waiting.append(SharedSocket(try .connect(to: listener.address))) }
        #expect(listen(.unix(path: path))?.cause == .kernel(.addressInUse))
        try listener.accept().shutDown()
        #expect(waiting.count == 9)
    }

    @Test("a socket file that nobody listens on is replaced")
    func stale() throws {
        let path = HostUnderTest.temporaryPath("stale")
        let left = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        try #require(left >= 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        unsafe withUnsafeMutableBytes(of: &address.sun_path) {
            unsafe $0.copyBytes(from: path.utf8)
        }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let status = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(left, $0, size)
            }
        }
        close(left)
        try #require(status == 0 && kind(path) == S_IFSOCK)
        #expect(connect(.unix(path: path))?.cause == .kernel(.connectionRefused))
        let listener = try Listener(at: .unix(path: path))
        try exchange(with: listener)
    }

    @Test("a file that is no socket is never deleted", arguments: [S_IFREG, S_IFLNK, S_IFDIR])
    func otherFiles(type: mode_t) throws {
        let path = HostUnderTest.temporaryPath("file-\(type)")
        switch type {
        case S_IFREG: close(unsafe open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600))
        case S_IFLNK: try #require(unsafe symlink("/nonexistent", path) == 0)
        default: try #require(unsafe mkdir(path, 0o700) == 0)
        }
        defer { unsafe remove(path) }
        #expect(listen(.unix(path: path))?.cause == .kernel(.addressInUse))
        #expect(kind(path) == type)
    }

    @Test("where nobody listens, the error says what to do")
    func refused() throws {
        let address = { () throws in try Listener(at: .tcp(host: "127.0.0.1", port: 0)).address }
        let tcp = try #require(connect(address()))
        #expect(tcp.cause == .kernel(.connectionRefused))
        #expect(tcp.description.hasPrefix("connecting to tcp:127.0.0.1:"))
        #expect(
            tcp.description.hasSuffix(": Connection refused; start 'postcopy receive' there first"))
        let unix = try #require(connect(.unix(path: HostUnderTest.temporaryPath("nobody"))))
        #expect(unix.cause == .kernel(.noEntry))
        #expect(unix.description.contains("postcopy receive"))
    }

    @Test("paths that no unix socket can have are refused on both sides", arguments: [0, 108, 200])
    func pathLength(bytes: Int) {
        let address = ChannelAddress.unix(path: String(repeating: "a", count: bytes))
        let cause = ChannelError.Cause.kernel(bytes == 0 ? .invalidArgument : .nameTooLong)
        #expect(listen(address)?.cause == cause)
        #expect(connect(address)?.cause == cause)
    }

    @Test("a folder that is missing, and a host that is none")
    func nowhere() throws {
        #expect(listen(.unix(path: "/nonexistent/a.sock"))?.cause == .kernel(.noEntry))
        let error = try #require(listen(.tcp(host: "999.999.999.999", port: 1)))
        guard case .unknownHost(let reason) = error.cause else {
            Issue.record("\(error)")
            return
        }
        #expect(reason.hasPrefix("host '999.999.999.999': "))
    }
}
