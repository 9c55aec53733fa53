import Glibc
import LinuxKernel
import TestSupport
import Testing

@Suite("StreamSocket")
struct StreamSocketTests {
    private func refusal(_ body: () throws(Errno) -> Void) -> Errno? {
        do throws(Errno) { try body() } catch { return error }
        return nil
    }

    @Test(
        "what is sent arrives, also through bounded buffers", arguments: ConnectedPair.Kind.allCases
    )
    func send(kind: ConnectedPair.Kind) throws {
        let (near, far) = try ConnectedPair(kind).ends()
        near.socket.sendAtOnce()
        near.socket.boundBuffers(bytes: 4096, unsentBytes: 4096)
        let bytes = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 4) }
        let reader = try JoinableThread(name: "reader") { far.drain() }
        try near.socket.send(bytes.span)
        near.socket.shutDown()
        let received = reader.join()
        #expect(try received.get() == bytes)
        let nothing: [UInt8] = []
        try near.socket.send(nothing.span)
    }

    @Test(
        "a send that must not wait sends what fits, and room is told",
        arguments: ConnectedPair.Kind.allCases)
    func sendWithoutWaiting(kind: ConnectedPair.Kind) throws {
        let (near, far) = try ConnectedPair(kind).ends()
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 4) }
        var sent = 0
        var full = Poller(capacity: 1)
        let room = full.watchRoom(in: near.socket)
        near.socket.boundBuffers(bytes: 4096, unsentBytes: 4096)
        while case let more = try near.socket.sendWithoutWaiting(bytes.span, from: sent), more > 0 {
            sent += more
        }
        #expect(sent > 0 && sent < bytes.count)
        #expect(full.wait(timeoutNanoseconds: 0) == 0 && !full.isReady(room))
        let reader = try JoinableThread(name: "reader") { far.drain() }
        while sent < bytes.count {
            let ready = full.wait(timeoutNanoseconds: HostUnderTest.patienceNanoseconds)
            try #require(ready == 1 && full.isReady(room))
            sent += try near.socket.sendWithoutWaiting(bytes.span, from: sent)
        }
        near.socket.shutDown()
        #expect(try reader.join().get() == bytes)
    }

    @Test("a peer that is gone is an error and no signal")
    func peerGone() async {
        await #expect(processExitsWith: .success) {
            for kind in ConnectedPair.Kind.allCases {
                let error = try StreamSocketTests.errorOfSending(kind)
                #expect(error == .brokenPipe || error == .connectionReset)
            }
        }
    }

    /// What a thousand sends to a closed peer end in; the first may arrive before its reset.
    private static func errorOfSending(_ kind: ConnectedPair.Kind) throws -> Errno? {
        var ends: (near: SharedSocket, far: SharedSocket?) = try ConnectedPair(kind).ends()
        ends.far = nil
        var writer = GatherWriter(pageCapacity: 1, headerBytesMax: 100)
        let bytes = [UInt8](repeating: 7, count: 10_000)
        do throws(Errno) {
            for _ in 0..<500 {
                writer.headers = bytes
                try writer.flush(to: ends.near.socket)
                try ends.near.socket.send(bytes.span)
            }
        } catch { return error }
        return nil
    }

    @Test("shutDown wakes a thread that waits for bytes", arguments: ConnectedPair.Kind.allCases)
    func shutDown(kind: ConnectedPair.Kind) throws {
        let (near, far) = try ConnectedPair(kind).ends()
        let thread = try SignalledThread { near.drain() }
        for _ in 0..<3 { thread.awaitSleep() }
        near.socket.shutDown()
        let received = thread.join()
        #expect(try received.get() == [])
        #expect(try far.drain().get() == [])
    }

    @Test("waits are limited in both directions", arguments: ConnectedPair.Kind.allCases)
    func limits(kind: ConnectedPair.Kind) throws {
        let (near, far) = try ConnectedPair(kind).ends()
        near.socket.limitWaits(nanoseconds: 20_000_000)
        var buffer = ReceiveBuffer(capacityBytes: 10)
        let receiving = refusal { () throws(Errno) in
            _ = try buffer.fill(from: near.socket, wait: true)
        }
        #expect(receiving == .again)
        let much = [UInt8](repeating: 1, count: 64 << 20)
        let sending = refusal { () throws(Errno) in try near.socket.send(much.span) }
        #expect(sending == .again || sending == .timedOut)
        far.socket.shutDown()
    }

    @Test("the shortest limit is one", arguments: [0, 1, 999, 1_001] as [UInt64])
    func shortLimits(nanoseconds: UInt64) throws {
        let (near, far) = try ConnectedPair(.unix).ends()
        near.socket.limitWaits(nanoseconds: nanoseconds)
        let receiving = try Bounded("receiver") { near.drain() }
        let received = receiving.output()
        far.socket.shutDown()
        #expect(throws: Errno.again) { try #require(received).get() }
    }

    @Test("signals do not end a limited receive or a connect that waits")
    func signals() throws {
        let path = HostUnderTest.temporaryPath("signals")
        let listener = try Listener(at: .unix(path: path))
        var waiting: [SharedSocket] = []
        for _ in 0..<9 { waiting.append(SharedSocket(try .connect(to: listener.address))) }
        let address = listener.address
        let thread = try SignalledThread {
            Result { () throws(ChannelError) in
                SharedSocket(try StreamSocket.connect(to: address))
            }
        }
        for _ in 0..<3 { thread.interrupt() }
        for _ in 0..<9 { try listener.accept().shutDown() }
        let connected = thread.join()
        let near = try connected.get()
        let far = SharedSocket(try listener.accept())
        near.socket.limitWaits(nanoseconds: HostUnderTest.patienceNanoseconds)
        let reader = try SignalledThread { near.drain() }
        for _ in 0..<3 { reader.interrupt() }
        let nine: [UInt8] = [9]
        try far.socket.send(nine.span)
        far.socket.shutDown()
        let received = reader.join()
        #expect(try received.get() == [9])
        #expect(waiting.count == 9)
    }
}
