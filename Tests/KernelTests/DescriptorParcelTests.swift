import CShims
import Glibc
import Testing

@testable import LinuxKernel

@Suite("Descriptors through a unix socket")
struct DescriptorParcelTests {
    /// Receives `count` bytes, or fewer up to the peer's end.
    private static func receive(
        _ count: Int, on socket: borrowing StreamSocket, _ parcel: inout DescriptorParcel
    ) throws(Errno) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let received = try socket.receive(upTo: count - bytes.count, into: &bytes, &parcel)
            if received == 0 { break }
        }
        return bytes
    }

    @Test("they arrive in order, each message's with its bytes", arguments: [0, 1, 3, 253])
    func arrive(count: Int) throws {
        let pair = try ConnectedPair(.unix)
        let flags = try (0..<count).map { _ in try EventFlag() }
        var sent = DescriptorParcel()
        for flag in flags { try sent.add(flag) }
        let bytes: [UInt8] = [1, 2, 3]
        try pair.near.send(bytes.span, sent)
        try pair.near.send(bytes.span, DescriptorParcel())
        var parcel = DescriptorParcel()
        let first = try Self.receive(3, on: pair.far, &parcel)
        #expect(first == bytes)
        let arrived = parcel.count
        #expect(arrived == count)
        for flag in flags {
            guard let received = parcel.takeFirst() else {
                Issue.record("fewer than were sent")
                return
            }
            #expect(fcntl(received.raw, F_GETFD) & FD_CLOEXEC != 0)
            #expect(pc_eventfd_raise(received.raw) == 0)
            #expect(flag.clear(), "not what was sent in this place")
        }
        let second = try Self.receive(3, on: pair.far, &parcel)
        let left = parcel.count
        #expect(second == bytes && left == 0)
    }

    @Test("bytes longer than the socket's room arrive whole, and the end is told")
    func long() throws {
        let (near, far) = try ConnectedPair(.unix).ends()
        let bytes = (0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 4) }
        let reader = try JoinableThread(name: "reader") {
            Result { () throws(Errno) in
                var parcel = DescriptorParcel()
                let bytes = try Self.receive(2_000_000, on: far.socket, &parcel)
                return (bytes, parcel.count)
            }
        }
        let flag = try EventFlag()
        var parcel = DescriptorParcel()
        try parcel.add(flag)
        try near.socket.send(bytes.span, parcel)
        near.socket.shutDown()
        let (received, count) = try reader.join().get()
        #expect(received == bytes)
        #expect(count == 1)
    }

    @Test("nothing is there to not wait for, and a TCP socket takes none")
    func refusals() throws {
        let pair = try ConnectedPair(.unix)
        var bytes: [UInt8] = []
        var parcel = DescriptorParcel()
        let nothing = try pair.far.receive(upTo: 10, into: &bytes, &parcel, wait: false)
        #expect(nothing == nil && bytes.isEmpty)
        let flag = try EventFlag()
        for _ in 0..<254 { try parcel.add(flag) }
        let one: [UInt8] = [1]
        #expect(throws: Errno.invalidArgument) { try Self.send(one, on: pair.near, parcel) }
    }

    private static func send(
        _ bytes: [UInt8], on socket: borrowing StreamSocket, _ parcel: borrowing DescriptorParcel
    ) throws(Errno) { try socket.send(bytes.span, parcel) }

    @Test("those that nobody takes are closed, with and without an error")
    func closed() async {
        await #expect(processExitsWith: .success) {
            let flag = try EventFlag()
            let before = HostUnderTest.descriptorCount
            for _ in 0..<200 {
                let pair = try ConnectedPair(.unix)
                var sent = DescriptorParcel()
                for _ in 0..<5 { try sent.add(flag) }
                try pair.near.send([1].span, sent)
                var bytes: [UInt8] = []
                var parcel = DescriptorParcel()
                _ = try pair.far.receive(upTo: 1, into: &bytes, &parcel)
                _ = parcel.takeFirst()
                let left = parcel.count
                #expect(left == 4)
            }
            #expect(HostUnderTest.descriptorCount < before + 50)
        }
    }

    @Test("descriptors that this process has no room for are an error, and the others are closed")
    func truncated() async {
        await #expect(processExitsWith: .success) {
            let pair = try ConnectedPair(.unix)
            let flag = try EventFlag()
            var sent = DescriptorParcel()
            for _ in 0..<20 { try sent.add(flag) }
            try pair.near.send([1, 2].span, sent)
            let open = HostUnderTest.descriptorCount
            // Room for a few more than are open, and for fewer than come.
            var limit = rlimit(rlim_cur: rlim_t(open + 5), rlim_max: rlim_t(open + 5))
            let isLimited = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            #expect(isLimited == 0)
            var bytes: [UInt8] = []
            var parcel = DescriptorParcel()
            do throws(Errno) {
                _ = try pair.far.receive(upTo: 2, into: &bytes, &parcel)
                Issue.record("descriptors were lost unnoticed")
            } catch { #expect(error.rawValue == EMSGSIZE) }
            let left = parcel.count
            #expect(left == 0)
            #expect(HostUnderTest.descriptorCount <= open)
        }
    }
}
